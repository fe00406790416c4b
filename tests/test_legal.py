"""Molecules that are drawn token by token: what may come, and that molecules come of it."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch

pytest.importorskip("rdkit", reason="needs morphogen[molecules]")

from rdkit import Chem

from morphogen.backbones.rnn import RNN
from morphogen.backbones.transformer import Transformer
from morphogen.core.backbone import BuildBackbone
from morphogen.core.batch import Batch
from morphogen.core.codec import Item, Report
from morphogen.families.autoregressive import Autoregressive
from morphogen.families.masked import Masked
from morphogen.modalities.molecule import Molecule
from morphogen.modalities.molecule.chemistry import kekule
from morphogen.modalities.molecule.grammar import Growing, bonds_of
from morphogen.modalities.molecule.properties import PROPERTIES
from morphogen.modalities.molecule.tokens import split
from morphogen.tasks.fill import fill
from morphogen.tasks.generate import generate

SMILES = [
    "CCO", "C[C@@H](N)C(=O)[O-]", "F/C=C/F", "CC1=NNC(C)=C1NC(=O)C[NH+]1CCCCC1",
    "O=C1NC(=O)c2ccccc12", "C[S@](=O)c1ccccc1", "c1ccc2c(c1)[nH]c1ccccc12", "C1CC12CC2",
    "OC(=O)/C(C)=C/c1ccc[n+]([O-])c1", "CS(=O)(=O)Nc1nc2ccccc2s1", "CC#N", "C1C2CC3CC1CC(C2)C3",
]  # fmt: skip


def grown(text: str) -> Growing | None:
    """A text as far as it goes; None where a token may not come."""
    growing = Growing()
    return growing if all(map(growing.take, split(text))) else None


@pytest.mark.parametrize(("atom", "bonds"), [
    ("C", 4), ("N", 3), ("O", 2), ("F", 1), ("S", 6), ("[NH+]", 3), ("[N+]", 4), ("[O-]", 1),
    ("[C@@H]", 3), ("[nH]", 2), ("[Na+]", 0), ("*", 8),
])  # fmt: skip
def test_valences_are_those_of_the_element_with_as_many_electrons(atom: str, bonds: int) -> None:
    assert bonds_of(atom) == bonds


@pytest.mark.parametrize("smiles", SMILES)
def test_every_molecule_is_legal(smiles: str) -> None:
    for text in (Chem.CanonSmiles(smiles), kekule(Chem.CanonSmiles(smiles))):
        whole = grown(text)
        assert whole is not None
        assert whole.may_end
    assert Chem.CanonSmiles(text) == Chem.CanonSmiles(smiles)


@pytest.mark.parametrize("text", [
    "C)", "C(", "C((", "C()", "(C", "1C", "C==", "=C(", "C1C1", "C11", "O=O=", "F(", "FCF1",
    "C=1CC#1",
    "CF=", "N(C)(C)(C)C", "C(.C", "C1.", "[NH4+]C", "C(C)1",
])  # fmt: skip
def test_what_can_become_no_molecule_is_not(text: str) -> None:
    found = grown(text)
    assert found is None or not found.may_end


def test_a_ring_that_nothing_can_close_does_not_begin() -> None:
    found = grown("FC(F)(F)C1")
    assert found is not None
    assert found.needed is not None
    closed = grown("C1F")
    assert closed is not None
    assert closed.needed is None


def test_what_is_said_to_be_enough_to_end_is_enough() -> None:
    """Of whatever has come, a carbon, a ring closure or a ")" is a step nearer to its end. Rings
    that begin with three bonds at once are left out: one more token than is said may be needed."""
    draw, seen = random.Random(0), 0
    for _ in range(1500):
        growing, text = Growing(), ""
        for token in draw.choices("CNOFS()=123/", k=14):
            further = growing.copy()
            if not further.take(token) or further.needed is None:
                continue
            growing, text = further, text + token
            if (needed := growing.needed) == 0:
                continue
            assert needed is not None
            ahead = [growing.copy() for _ in "C)123"]
            taken = [g.take(each) for g, each in zip(ahead, "C)123", strict=True)]
            left = [g.needed for g, may in zip(ahead, taken, strict=True) if may]
            assert min((n for n in left if n is not None), default=needed) < needed, text
            seen += 1
    assert seen > 2000


@pytest.fixture(scope="module")
def codec() -> Molecule:
    draw = random.Random(0)
    molecules = [Chem.CanonSmiles(each) for each in SMILES]
    items = [Item(draw.choice(molecules), str(i)) for i in range(300)]
    return Molecule(merges=12, length=24).fit(items).use_view("tokens")


def test_what_an_untrained_model_draws_are_molecules(codec: Molecule) -> None:
    torch.manual_seed(0)
    model = Autoregressive(codec.spec, {}, BuildBackbone(RNN, model_dim=8, num_layers=1))
    options: Any = {"num": 200, "generator": torch.Generator().manual_seed(0)}
    drawn = codec.decode_many(generate(model, codec=codec, **options).x)
    assert all(text and Chem.MolFromSmiles(text) is not None for text in drawn)
    assert len(set(drawn)) > 50
    assert max(map(len, drawn)) > 12  # also where there is hardly room to close what is open
    free = codec.decode_many(generate(model, **options).x)
    assert sum(Chem.MolFromSmiles(text) is not None for text in free) < 150


def test_draws_are_the_models_own_given_that_they_are_legal(codec: Molecule) -> None:
    """The first token: p(x) over the sum of p of those that may come first."""
    torch.manual_seed(1)
    model = Autoregressive(codec.spec, {}, BuildBackbone(RNN, model_dim=8, num_layers=1))
    draw = torch.Generator().manual_seed(0)
    x = model.sample(4000, generator=draw, legal=codec.legality(4000))
    found = torch.bincount(x[:, 0], minlength=codec.spec.vocab_size) / len(x)
    left = codec.spec.num_values - 2
    legal = [codec.legality(1).take(0, token, left) for token in range(codec.spec.vocab_size)]
    exact = model.predict_next(x[:1, :0])[0].softmax(0) * torch.tensor(legal)
    assert (found - exact / exact.sum()).abs().max() < 0.03


def test_what_is_filled_in_after_a_beginning_are_molecules(codec: Molecule) -> None:
    torch.manual_seed(0)
    model = Autoregressive(codec.spec, {}, BuildBackbone(RNN, model_dim=8, num_layers=1))
    x = codec.encode_many([Item(Chem.CanonSmiles(each), each) for each in SMILES])
    known = (torch.arange(x.shape[1]) < 3).expand_as(x)
    options: Any = {"num": 5, "known": known, "generator": torch.Generator().manual_seed(0)}
    filled = fill(model, x, codec, **options).x.view(len(x), -1, x.shape[1])[:, 1:]
    assert (filled[..., :3] == x[:, None, :3]).all()
    texts = codec.decode_many(filled.flatten(0, 1))
    assert all(text and Chem.MolFromSmiles(text) is not None for text in texts)
    free = codec.decode_many(model.fill(x, known, generator=options["generator"]))
    assert any(Chem.MolFromSmiles(text) is None for text in free)


def test_what_comes_a_token_at_a_time_keeps_to_the_rules_as_well(codec: Molecule) -> None:
    torch.manual_seed(0)
    model = Autoregressive(codec.spec, {}, BuildBackbone(RNN, model_dim=8, num_layers=1))
    nothing = torch.zeros(50, 0, dtype=torch.int64)
    came = model.stream(
        nothing, generator=torch.Generator().manual_seed(0), legal=codec.legality(50)
    )
    x = torch.stack(list(came), 1)
    whole = model.sample(50, generator=torch.Generator().manual_seed(0), legal=codec.legality(50))
    assert torch.equal(x, whole[:, : x.shape[1]])
    assert (whole[:, x.shape[1] :] == codec.spec.end).all()


def test_a_masked_model_draws_and_fills_within_the_rules(codec: Molecule) -> None:
    torch.manual_seed(0)
    model = Masked(codec.spec, {}, BuildBackbone(Transformer, model_dim=16, num_layers=1))
    x = codec.encode_many([Item(Chem.CanonSmiles(each), each) for each in SMILES])
    model.prepare(Batch(x), torch.Generator().manual_seed(0))
    options: Any = {"generator": torch.Generator().manual_seed(0)}
    drawn = codec.decode_many(generate(model, num=100, codec=codec, **options).x)
    assert all(text and Chem.MolFromSmiles(text) is not None for text in drawn)
    assert len(set(drawn)) > 30
    free = codec.decode_many(generate(model, num=100, **options).x)
    assert sum(Chem.MolFromSmiles(text) is not None for text in free) < 50
    known = (torch.arange(x.shape[1]) < 3).expand_as(x)
    filled = fill(model, x, codec, num=3, known=known, **options).x.view(len(x), -1, x.shape[1])
    assert (filled[:, 1:, :3] == x[:, None, :3]).all()
    texts = codec.decode_many(filled[:, 1:].flatten(0, 1))
    assert all(text and Chem.MolFromSmiles(text) is not None for text in texts)


def test_what_is_known_later_is_held_though_no_rule_foresees_it(codec: Molecule) -> None:
    torch.manual_seed(0)
    model = Autoregressive(codec.spec, {}, BuildBackbone(RNN, model_dim=8, num_layers=1))
    x = codec.encode_many([Item(Chem.CanonSmiles(each), each) for each in SMILES])
    known = (torch.arange(x.shape[1]) % 2 == 0).expand_as(x)
    draw, legal = torch.Generator().manual_seed(0), codec.legality(len(x))
    filled = model.fill(x, known, generator=draw, legal=legal)
    assert (filled[known] == x[known]).all()


def test_what_was_spelt_as_it_was_read_is_encoded_as_what_was_not() -> None:
    read = Molecule(merges=4)
    items = list(read.read(["c1ccccc1O", "CCO", "Cc1ccncc1", "OC(=O)c1ccccc1"] * 10, Report("")))
    read.fit(items).use_view("tokens")
    other = Molecule.from_state(read.state(), {})
    assert torch.equal(read.encode_many(items), other.encode_many(items))


def test_what_rdkit_fails_at_is_listed_and_the_rest_is_read(monkeypatch: Any) -> None:
    def refuse(mol: Any) -> float:
        if mol.GetNumAtoms() == 2:
            raise RuntimeError("Invariant Violation")
        return 1.0

    monkeypatch.setitem(PROPERTIES, "logp", refuse)
    report = Report("")
    read = list(Molecule(properties="logp").read(["CCO", "CC", "CCN", "CCCC"], report))
    assert [item.value for item in read] == ["CCO", "CCN", "CCCC"]
    (problem,) = report.problems
    assert problem.fatal
    assert "Invariant Violation" in problem.reason
