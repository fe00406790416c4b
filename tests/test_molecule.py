"""Molecules: read from every form, kept as they are, and judged as chemists do."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("rdkit", reason="needs morphogen[molecules]")

from rdkit import Chem

from morphogen.backbones.gnn import GNN
from morphogen.core.codec import Item, Report
from morphogen.core.errors import DataError, RecipeError
from morphogen.core.metric import Items
from morphogen.core.spec import ProductSpec, TensorSpec
from morphogen.data.dataset import load
from morphogen.data.divide import split
from morphogen.data.modality import find_modality
from morphogen.metrics._molecules import Molecules
from morphogen.metrics.molecular import molecular
from morphogen.modalities.molecule import Molecule, vocabulary
from morphogen.modalities.molecule.chemistry import kekule
from morphogen.modalities.molecule.graph import Graphs
from morphogen.modalities.molecule.properties import logp, qed
from morphogen.modalities.molecule.tokens import kinds_of, looks_like_smiles
from morphogen.modalities.molecule.tokens import split as tokens_of
from morphogen.modalities.molecule.vocabulary import Signs
from sources.molecule import OWN, molecules

BROKEN = ("C(C", "c1ccc", "F(F)F", "Xx", "C1CC2")
HARD = (
    *OWN, "C[C@@]12CCC[C@H]1CC2", "CC/C(F)=C(\\Cl)Br", "C[C@H](F)/C=C/[C@@H](C)O", "[H]/N=C(\\C)N",
    "O=c1[nH]c2ccccc2s1", "[O-][n+]1ccccc1", "CS(=O)(=O)C", "[C-]#[N+]C", "CC(=O)O[Na]",
    "N[C@@H](CS)C(=O)N[C@@H](C)C(=O)O", "C1=C[C@H]2CC[C@@H]1C2", "Oc1ccc2c(c1)OC[C@H]2N",
)  # fmt: skip


def codec_of(smiles: Sequence[str], **options: Any) -> Molecule:
    return Molecule(**options).fit([Item(each, str(i)) for i, each in enumerate(smiles)])


# -- recognising and reading --------------------------------------------------------------------


def write_csv(path: Path, smiles: Sequence[str]) -> Path:
    rows = "".join(f"{each},{i / 10}\n" for i, each in enumerate(smiles))
    path.write_text("smiles,logP\n" + rows)
    return path


def test_every_form_is_recognised_and_read_alike(tmp_path: Path) -> None:
    smiles = molecules(40)
    text = "".join(f"{each}\n" for each in smiles)
    for name in ("a.smi", "a.txt"):
        (tmp_path / name).write_text(text)
    write_csv(tmp_path / "a.csv", smiles)
    with gzip.open(tmp_path / "a.csv.gz", "wt") as file:
        file.write((tmp_path / "a.csv").read_text())
    writer = Chem.SDWriter(str(tmp_path / "a.sdf"))
    for each in smiles:
        mol = Chem.MolFromSmiles(each)
        mol.SetProp("activity", "3.5")
        writer.write(mol)
    writer.close()
    for name in ("a.smi", "a.txt", "a.csv", "a.csv.gz", "a.sdf"):
        report = Report(name)
        assert find_modality(tmp_path / name) == "molecule", name
        items = list(Molecule().read(tmp_path / name, report))
        assert [item.value for item in items] == smiles, name
        assert not report.problems
    assert items[0].tags["activity"] == "3.5"
    assert find_modality(smiles) == "molecule"


@pytest.mark.parametrize("words", [["CON", "SIN", "OF", "IS"], ["one two", "C C"], ["12", "3"]])
def test_words_are_no_molecules(words: list[str], tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("\n".join(words * 10))
    assert Molecule.recognises(path) is None
    assert Molecule.recognises_cells(words) is None


def test_what_does_not_parse_is_counted_and_listed(tmp_path: Path) -> None:
    path = tmp_path / "a.smi"
    path.write_text("\n".join([*molecules(30), *BROKEN, "C" * 300]) + "\n")
    data = load(path, modality="molecule")
    told = {problem.name: problem for problem in data.report.problems if problem.fatal}
    lines = {f"a.smi#line {number}" for number in range(31, 32 + len(BROKEN))}
    assert lines <= set(told)
    assert all("no training molecule" in told[name].reason for name in set(told) - lines)
    assert "valence" in told["a.smi#line 33"].reason
    assert data.report.facts["no_molecules"].startswith("5 entries")
    assert "tokens, and there is room" in told["a.smi#line 36"].reason


def test_properties_are_conditions(tmp_path: Path) -> None:
    smiles = molecules(40)
    data = load(write_csv(tmp_path / "a.csv", smiles), properties="qed,logp", conditions="qed,logp")
    assert set(data.conditions) == {"qed", "logp"}
    item = next(iter(data.codec.read(tmp_path / "a.csv", Report("a"))))
    assert float(item.tags["qed"]) == pytest.approx(qed([item.value])[0], abs=1e-5)
    assert item.tags["logp"] == "0.0"  # the column's own
    assert logp(["C(C"]) == [-10.0]
    with pytest.raises(RecipeError, match="logp"):
        Molecule(properties="loqp")


# -- tokens and graphs --------------------------------------------------------------------------


def test_tokens_are_atoms() -> None:
    assert tokens_of("C[C@@H](N)c1ccccc1Cl")[:5] == ["C", "[C@@H]", "(", "N", ")"]
    assert tokens_of("BrC%12CC%12") == ["Br", "C", "%12", "C", "C", "%12"]
    assert not looks_like_smiles("C1CC")
    with pytest.raises(DataError, match="no SMILES"):
        tokens_of("C?C")


def test_kekules_form_is_the_same_of_what_was_parsed() -> None:
    """Also where brackets say that an atom has no hydrogens, which is forgotten as it stands."""
    bare = ("CCCCOc1ccc(NC[S](=O)=O)cn1", "c1ccc2c(c1)[I]c1ccccc1-2", "c1ccc([B])cc1")
    for each in map(Chem.CanonSmiles, (*HARD, *bare, *molecules())):
        parsed = Chem.MolFromSmiles(each)
        if Chem.MolToSmiles(parsed) == each:  # its atoms are in canonical order
            assert kekule(each, parsed) == kekule(each)


def test_signs_stand_for_tokens() -> None:
    texts = [*HARD, *molecules()]
    tokens = [tokens_of(each) for each in texts]
    signs = Signs(token for own in tokens for token in own)
    assert signs.written(texts) == ["".join(map(signs.of.__getitem__, own)) for own in tokens]
    assert kinds_of(texts) == signs.of.keys()
    for odd in ("[Xe]", "CéC", "C?"):
        with pytest.raises(KeyError):
            signs.written(["C", odd])


def test_groups_are_found_in_some_of_many(monkeypatch: pytest.MonkeyPatch) -> None:
    smiles = molecules(200)
    monkeypatch.setattr(vocabulary, "MOST_PAIRED", 20)
    codec = codec_of(smiles, merges=24)
    x = codec.encode_many([Item(each) for each in smiles])  # the longest has room, too
    assert codec.decode_many(x) == smiles


@pytest.mark.parametrize("options", [{}, {"spelling": "selfies"}])
@pytest.mark.parametrize("view", ["tokens", "graph"])
def test_a_molecule_comes_back_with_its_stereo_charges_and_salts(
    view: str, options: dict[str, Any]
) -> None:
    if options:
        pytest.importorskip("selfies", reason="needs morphogen[molecules]")
    smiles = [Chem.CanonSmiles(each) for each in (*HARD, *molecules())]
    codec = codec_of(smiles, **options).use_view(view)
    x = codec.encode_many([Item(each) for each in smiles])
    back = codec.decode_many(x)
    assert [Chem.CanonSmiles(each) for each in back] == smiles
    heavy = [Chem.MolFromSmiles(each).GetNumHeavyAtoms() for each in smiles]
    if view == "tokens" and not options:
        assert codec.num_units(x).tolist() == heavy


def test_any_order_of_atoms_is_the_same_molecule() -> None:
    """Chirality is told by the order of neighbours: another order, other tokens, one molecule."""
    smiles = [Chem.CanonSmiles(each) for each in HARD]
    graphs = Graphs.of([token for each in smiles for token in tokens_of(each)], 24)
    draw = torch.Generator().manual_seed(0)
    for each in smiles:
        mol = Chem.MolFromSmiles(each)
        order = torch.randperm(mol.GetNumAtoms(), generator=draw).tolist()
        other = Chem.MolToSmiles(Chem.RenumberAtoms(mol, order), canonical=False)
        assert Chem.CanonSmiles(graphs.decode(graphs.encode(other))) == each


def test_a_graph_of_any_numbers_is_a_text() -> None:
    codec = codec_of(molecules()).use_view("graph")
    draw = torch.Generator().manual_seed(0)
    spec = codec.spec
    x = {n: torch.randint(p.vocab_size, (20, *p.shape), generator=draw) for n, p in spec}
    assert all(isinstance(each, str) for each in codec.decode_many(spec.canonical(x)))


def test_what_no_graph_holds_is_said() -> None:
    codec = codec_of(molecules(), max_atoms=5).use_view("graph")
    with pytest.raises(DataError, match="room for 5"):
        codec.encode(Item("CCCCCC"))
    with pytest.raises(DataError, match="no training molecule"):
        codec.check_fits(Item("C[Si](C)C"), Report(""))


# -- pairs: a spec, and a network that knows no order ---------------------------------------------

SIZE = 6
GRAPH = ProductSpec(
    {
        "num": TensorSpec.label(SIZE + 1),
        "nodes": TensorSpec.tokens(SIZE, 4),
        "edges": TensorSpec("token", (SIZE, SIZE), 3),
    },
    lengths={"nodes": "num", "edges": "num"},
    pairs=("edges",),
)


def graphs(num: int, seed: int) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    x = {n: torch.randint(p.vocab_size, (num, *p.shape), generator=draw) for n, p in GRAPH}
    return GRAPH.canonical(x)


def test_of_each_pair_one_value_is_real() -> None:
    x = graphs(50, 0)
    n = x["num"]
    assert GRAPH.mask(x)["edges"].sum((1, 2)).tolist() == (n * (n - 1) // 2).tolist()
    assert not x["edges"].tril().any()
    assert GRAPH.num_values == 1 + SIZE + SIZE * (SIZE - 1) // 2
    assert ProductSpec.from_json(GRAPH.to_json()) == GRAPH
    with pytest.raises(ValueError, match="two axes"):
        ProductSpec({"a": TensorSpec.tokens(3, 2)}, pairs=("a",))


def test_gnn_does_not_depend_on_the_order_of_positions() -> None:
    told = ProductSpec(
        {
            "nodes": TensorSpec("real", (2, SIZE), layout="sequence"),
            "edges": TensorSpec("real", (3, SIZE, SIZE)),
        },
        pairs=("edges",),
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = GNN(GRAPH, told, model_dim=32, pair_dim=8, num_layers=2).eval()
        for parameter in network.parameters():
            parameter.data.normal_(std=0.3)
    x = graphs(4, 1) | {"num": torch.full((4,), SIZE)}
    draw = torch.Generator().manual_seed(2)
    x["edges"] = torch.randint(3, (4, SIZE, SIZE), generator=draw).triu(1)
    order = torch.randperm(SIZE, generator=draw)
    both = (x["edges"] + x["edges"].mT)[:, order][:, :, order]
    moved = {"num": x["num"], "nodes": x["nodes"][:, order], "edges": both.triu(1)}
    with torch.no_grad():
        out, other = network(x), network(moved)
    torch.testing.assert_close(other["nodes"], out["nodes"][..., order], atol=1e-5, rtol=1e-4)
    edges = out["edges"][:, :, order][..., order]
    torch.testing.assert_close(other["edges"], edges, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(out["edges"], out["edges"].mT)


# -- dividing and recognising ---------------------------------------------------------------------


def test_scaffolds_stay_together(tmp_path: Path) -> None:
    path = tmp_path / "a.smi"
    path.write_text("".join(f"{each}\n" for each in molecules(200)))
    plan = split(path, by="scaffold")
    rows = [line.split(",") for line in Path(plan.path).read_text().splitlines()[1:]]
    smiles = path.read_text().splitlines()
    frames: dict[str, set[str]] = {}
    for name, side, _ in rows:
        each = smiles[int(name.rpartition(" ")[2]) - 1]
        frame = Molecule().groupings["scaffold"](each)
        frames.setdefault(frame or each, set()).add(side)
    assert all(len(sides) == 1 for sides in frames.values())
    assert plan.num_test > 0


def test_salts_charges_and_stereo_are_near_duplicates() -> None:
    codec = Molecule()
    same = [
        "C[C@H](N)C(=O)O",
        "C[C@@H](N)C(=O)O",
        "C[C@H]([NH3+])C(=O)[O-]",
        "[Na+].CC(N)C(=O)[O-]",
    ]
    keys = {codec.fingerprint(Item(each)).keys for each in same}  # type: ignore[union-attr]
    assert len(keys) == 1
    other = codec.fingerprint(Item("CC(N)C(=O)N"))
    assert other is not None
    assert other.keys not in keys
    details = [
        torch.frombuffer(bytearray(codec.fingerprint(Item(each)).detail), dtype=torch.uint8)[None]  # type: ignore[union-attr]
        for each in ("CCO", "CCO", "c1ccccc1")
    ]
    key = torch.zeros(1, dtype=torch.long)
    assert float(codec.likeness(details[0], details[1], key)) == 1
    assert float(codec.likeness(details[0], details[2], key)) < 0.2


# -- judging -------------------------------------------------------------------------------------


def sets(generated: Sequence[str], real: Sequence[str], train: Sequence[str] = ()) -> Molecules:
    every = [*generated, *real, *(train or real)]
    places = torch.arange(len(every))[:, None]
    a, b = len(generated), len(generated) + len(real)
    return Molecules(
        TensorSpec.tokens(1, len(every)), places[:a], places[a:b], places[b:],
        lambda x: [every[int(i)] for i in x], lambda: list(train or real),
    )  # fmt: skip


def test_what_is_counted() -> None:
    real = molecules(60)
    found = molecular(sets(["CCO", "OCC", "C(C", "", real[0]], real))
    assert found["valid"] == pytest.approx(3 / 5)
    assert found["unique"] == pytest.approx(2 / 3)
    assert found["novel"] == pytest.approx(1 / 2)
    same = molecular(sets(real, real))
    assert same["nearest_tanimoto"] == pytest.approx(1)
    assert same["scaffold_similarity"] == pytest.approx(1)
    assert same["novel"] == 0
    assert set(molecular(sets(["C("] * 4, real)).values()) == {0.0}


def test_valid_garbage_is_told_from_molecules_like_the_data() -> None:
    """Long alkanes are valid, unique and novel; what a gate asks for besides, they do not pass."""
    pytest.importorskip("fcd_torch", reason="needs morphogen[molecules]")
    from morphogen.core.measurement import Measurement
    from morphogen.evaluation.gate import failures
    from morphogen.evaluation.scores import as_record, measure
    from morphogen.metrics.frechet_chemnet import frechet_chemnet

    every = molecules(120)
    real, train, like = every[::3], every[1::3], every[2::3]
    alkanes = ["C" * n for n in range(20, 20 + len(like))]
    demands = {
        "valid": {"at_least": 0.99}, "nearest_tanimoto": {"at_least": 0.25},
        "fcd": {"at_most": 40.0},
    }  # fmt: skip

    def missed(generated: Sequence[str]) -> list[str]:
        judged = sets(generated, real, train)
        found: list[Measurement] = measure("molecular", judged, {}, 0)
        fcd = frechet_chemnet(judged)["fcd"]
        found.append(Measurement("fcd", fcd, len(generated), higher_is_better=False))
        record = {"protocol": {}, "scores": {each.name: as_record(each) for each in found}}
        return failures(record, demands)

    garbage = missed(alkanes)
    assert [each.partition(":")[0] for each in garbage] == ["nearest_tanimoto", "fcd"]
    assert missed(like) == []


def test_fcd_is_that_of_its_package() -> None:
    fcd_torch = pytest.importorskip("fcd_torch", reason="needs morphogen[molecules]")
    from morphogen.metrics.frechet_chemnet import chemnet, chemnet_distance

    every = molecules(60)
    ours = chemnet_distance(chemnet(every[:30]), chemnet(every[30:]))
    theirs = fcd_torch.FCD(device="cpu", n_jobs=1, canonize=False)(every[30:], every[:30])
    assert ours == pytest.approx(float(theirs), rel=1e-2)


def test_metrics_of_molecules_ask_for_molecules() -> None:
    from morphogen.evaluation._fields import given_of_fields

    texts = load(["A short text.", "Another text here."] * 10, modality="text")
    given: Any = {Items: lambda: None}
    found = given_of_fields(given, [], texts)
    assert found[Molecules] == "these items are no molecules"


# -- for people ----------------------------------------------------------------------------------


def test_a_page_draws_molecules(tmp_path: Path) -> None:
    codec = codec_of(molecules())
    shown = codec.html(["c1ccccc1", "C(C"], 2)
    assert shown.count("<svg") == 1
    assert "no molecule" in shown
    written = codec.write(["CCO", "C(C"], tmp_path / "a.smi")
    assert written.read_text() == "CCO\nC(C\n"
    assert json.dumps(codec.state())


def test_groups_of_tokens_are_shorter_and_say_the_same() -> None:
    smiles = molecules(200)
    plain, joined = codec_of(smiles), codec_of(smiles, merges=24)
    items = [Item(each) for each in smiles]
    x, y = plain.encode_many(items), joined.encode_many(items)
    assert joined.decode_many(y) == smiles
    assert plain.num_units(x).tolist() == joined.num_units(y).tolist()
    assert 2 * plain.spec.num_real(x).mean() > 3 * joined.spec.num_real(y).mean()
    again = Molecule.from_state(json.loads(json.dumps(joined.state())), {})
    assert torch.equal(again.encode_many(items), y)
    assert again.spec == joined.spec


def test_what_was_drawn_can_be_judged_whatever_it_is() -> None:
    codec = codec_of(molecules())
    drawn = ["CCO", "", "[Xe]C", "C" * 500, "C(C", "nonsense"]
    back = codec.decode_many(codec.encode_drawn([Item(each) for each in drawn]))
    assert back[0] == "CCO"
    assert back[4] == "C(C"
    assert [Chem.MolFromSmiles(each) is None or not each for each in back[1:]] == [True] * 5


def test_copies_are_told_from_isomers_and_from_others() -> None:
    training = [Chem.CanonSmiles(each) for each in ("C[C@H](N)C(=O)O", "CCO", "c1ccccc1CC")]
    drawn = ["OCC", "C[C@@H]([NH3+])C(=O)[O-]", "[Na+].CC(N)C(=O)[O-]", "CCN", "C1CC", "C1CCCCC1CC"]
    found = Molecule().copies(drawn, training)
    assert found == {"exact": [1, -1, -1, -1, -1, -1], "near": [-1, 0, 0, -1, -1, -1]}
