"""Copies and near-duplicates: what is recognised, what is not merged, what is kept."""

from __future__ import annotations

import gzip
import io
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from morphogen.core.codec import CanFingerprint, Item
from morphogen.core.errors import DataError
from morphogen.core.random import generator, rand
from morphogen.data.dataset import Data
from morphogen.data.duplicates import find_duplicates
from morphogen.data.fingerprints import Fingerprints
from morphogen.data.neighbours import Sieve, clusters, members, near, pack_keys
from morphogen.modalities.image import Image
from morphogen.modalities.image.coarse import COARSE, Waves, of_views, waves
from morphogen.modalities.image.details import SIDE, seen, views, with_slopes

SHARED = Path(os.environ.get("MORPHOGEN_SHARED", Path(__file__).parents[2] / "shared"))
LEFT_RIGHT = Pillow.Transpose.FLIP_LEFT_RIGHT


def picture(seed: int, side: int = 64) -> Pillow.Image:
    """Detail at several scales, different for every seed."""
    rng = np.random.default_rng(seed)
    total = np.zeros((side, side, 3))
    for size in (4, 9, 18):
        small = Pillow.fromarray(rng.integers(0, 256, (size, size, 3)).astype(np.uint8))
        total += np.asarray(small.resize((side, side), Pillow.Resampling.BICUBIC), float) / size
    return Pillow.fromarray(np.uint8(255 * (total - total.min()) / np.ptp(total)))


def jpeg(image: Pillow.Image, quality: int) -> Pillow.Image:
    stream = io.BytesIO()
    image.convert("RGB").save(stream, "JPEG", quality=quality)
    return Pillow.open(stream).convert(image.mode)


def cropped(image: Pillow.Image, left: int, top: int, right: int, bottom: int) -> Pillow.Image:
    return image.crop((left, top, image.width - right, image.height - bottom))


TWINS: dict[str, Callable[[Pillow.Image], Pillow.Image]] = {
    "jpeg": lambda image: jpeg(image, 60),
    "larger": lambda image: image.resize((image.width * 2, image.height * 2)),
    "smaller": lambda image: image.resize((image.width * 3 // 4, image.height * 3 // 4)),
    "other aspect": lambda image: image.resize((image.width, image.height * 5 // 4)),
    "cropped": lambda image: cropped(image, *[image.width // 28] * 4),
    "cut on one side": lambda image: cropped(image, image.width // 14, 0, 0, 0),
    "cut unevenly": lambda image: cropped(image, 4, 2, 0, 3),
    "mirrored": lambda image: image.transpose(LEFT_RIGHT),
    "mirrored, cropped, jpeg": lambda image: jpeg(
        cropped(image.transpose(LEFT_RIGHT), *[image.width // 28] * 4), 75
    ),
}


def prints(images: list[Pillow.Image]) -> Fingerprints:
    found = Fingerprints(Image())
    for number, image in enumerate(images):
        found.see(number, Item(image))
    return found


@pytest.mark.parametrize("kind", TWINS)
def test_a_twin_is_recognised_and_nothing_else(kind: str) -> None:
    originals = [picture(seed) for seed in range(40)]
    twins = prints([TWINS[kind](image) for image in originals[:20]])
    found = {(i, j) for i, j, _ in prints(originals).pairs_with(twins)}
    assert {(i, i) for i in range(20)} - found == set()
    assert all(i == j for i, j in found)


def test_different_pictures_are_apart() -> None:
    assert prints([picture(seed) for seed in range(60)]).pairs() == []
    rng = np.random.default_rng(0)
    noise = [Pillow.fromarray(rng.integers(0, 256, (8, 8)).astype(np.uint8)) for _ in range(60)]
    assert prints(noise).pairs() == []


def test_blank_pictures_show_nothing() -> None:
    assert len(prints([Pillow.new("L", (9, 9), grey) for grey in (0, 90, 255)])) == 0


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_the_fingerprint_does_not_depend_on_depth_or_form(dtype: str) -> None:
    grey = np.asarray(picture(0).convert("L"))
    top = {"uint8": 255, "uint16": 65535, "float32": 1.0}[dtype]
    deep = (grey * (top / 255)).astype(dtype)
    codec = Image()
    assert isinstance(codec, CanFingerprint)
    one, two = (codec.fingerprint(Item(value)) for value in (Pillow.fromarray(grey), deep))
    assert one is not None
    assert two is not None
    difference = int.from_bytes(one.keys[0]) ^ int.from_bytes(two.keys[0])
    assert difference.bit_count() <= 4
    assert one == codec.fingerprint(Item(Pillow.fromarray(grey)))


def test_near_is_brute_force() -> None:
    rng = np.random.default_rng(0)
    keys = [[rng.bytes(16) for _ in range(3)] for _ in range(300)]
    for each in range(0, 300, 3):  # neighbours at known places
        flipped = bytearray(keys[each][0])
        flipped[each % 16] ^= 0b101
        keys[(each + 7) % 300][2] = bytes(flipped)
    packed = pack_keys(keys)
    assert packed.shape == (300, 3, 2)

    def bits(key: bytes) -> int:
        return int.from_bytes(key)

    for radius in (0, 2, 45):
        expected = {
            (i, j)
            for i in range(300)
            for j in range(300)
            if min((bits(key) ^ bits(keys[j][0])).bit_count() for key in keys[i]) <= radius
        }
        i, j, key = near(packed, packed, radius)
        assert set(zip(i.tolist(), j.tolist(), strict=True)) == expected
        nearest = [
            int(np.argmin([(bits(k) ^ bits(keys[b][0])).bit_count() for k in keys[a]]))
            for a, b in zip(i, j, strict=True)
        ]
        assert key.tolist() == nearest
    assert len(near(packed[:0], packed, 5)[0]) == 0


def test_a_sieve_leaves_the_near_pairs_that_pass_it() -> None:
    draw = generator(0)
    keys = pack_keys([[bytes([n % 4] * 8), bytes([n % 4 ^ 1] * 8)] for n in range(300)])
    first, second = rand((300, 2, 3), draw), rand((300, 3), draw)
    i, j, key = near(keys, keys, 8, Sieve(first, second, 0.7))
    distance = np.bitwise_count(keys[:, None, :, 0] ^ keys[None, :, :1, 0]).astype(int)
    passed = torch.einsum("igc,jc->ijg", first, second).numpy() >= 0.7
    distance[~passed] = 99
    wanted = np.argwhere(distance.min(2) <= 8)
    assert np.array_equal(np.stack([i, j], 1), wanted)
    assert np.array_equal(distance[i, j, key], distance.min(2)[i, j])
    assert 0 < len(wanted) < (distance.min(2) < 99).sum()


def test_clusters_are_connected_components() -> None:
    roots = clusters(np.arange(8), [(5, 2), (7, 5), (0, 1), (1, 0)])
    assert roots.tolist() == [0, 0, 2, 3, 4, 2, 6, 2]
    assert list(members(roots)) == [[0, 1], [2, 5, 7]]
    copies = np.array([0, 1, 2, 0, 4, 2, 1, 0])  # of each the first that is the same
    assert clusters(copies, [(6, 3), (4, 4)]).tolist() == [0, 0, 2, 0, 4, 2, 0, 0]


def test_of_a_group_the_largest_then_the_earliest_is_kept(tmp_path: Path) -> None:
    for number in range(6):
        picture(number).save(tmp_path / f"{number}.png")
    picture(2).resize((128, 128)).save(tmp_path / "z.png")
    (tmp_path / "copy.png").write_bytes((tmp_path / "4.png").read_bytes())
    found = find_duplicates(tmp_path)
    told = {group.keep: (group.kind, group.leave_out) for group in found.groups}
    assert told == {"4.png": ("exact", ["copy.png"]), "z.png": ("near", ["2.png"])}
    assert json.loads(json.dumps(found.to_json()))["num_items"] == 8
    assert "keep      z.png" in found.text()
    assert [g.kind for g in find_duplicates(tmp_path, near=False).groups] == ["exact"]
    assert found.write_list(tmp_path / "out.txt").read_text() == "2.png\ncopy.png\n"
    with pytest.raises(DataError, match="would stay in the data"):
        found.move_to(tmp_path / "away")
    assert found.move_to(tmp_path.parent / "away") == 2
    assert (tmp_path.parent / "away" / "2.png").is_file()
    assert find_duplicates(tmp_path).groups == []


def test_chains_are_taken_apart(tmp_path: Path) -> None:
    """One crop of a picture and another one are each like the picture, not like one another."""
    whole = picture(3)
    ways = {"a": (0, 0, 0, 0), "b": (4, 4, 0, 0), "c": (0, 0, 4, 4)}
    twins = {name: cropped(whole, *cut) for name, cut in ways.items()}
    alike = {(i, j) for i, j, _ in prints(list(twins.values())).pairs_with(prints([whole]))}
    assert alike == {(0, 0), (1, 0), (2, 0)}
    assert prints([twins["b"]]).pairs_with(prints([twins["c"]])) == []
    for name, twin in twins.items():
        twin.save(tmp_path / f"{name}.png")
    (tmp_path / "d.png").write_bytes((tmp_path / "c.png").read_bytes())
    (group,) = find_duplicates(tmp_path).groups
    assert (group.kind, group.keep) == ("near", "a.png")
    assert group.leave_out == ["b.png", "c.png", "d.png"]

    (tmp_path / "a.png").unlink()
    (tmp_path / "b.png").rename(tmp_path / "z.png")
    whole.resize((32, 32)).save(tmp_path / "e.png")  # like all, and the smallest
    found = find_duplicates(tmp_path).groups
    assert [(g.keep, g.leave_out) for g in found] == [("c.png", ["d.png", "e.png"])]


def test_copies_with_other_labels_and_across_splits_say_so(tmp_path: Path) -> None:
    for number in range(8):
        place = tmp_path / ("train", "test")[number % 2] / ("boot", "hat")[number // 4]
        place.mkdir(parents=True, exist_ok=True)
        picture(number).save(place / f"{number}.png")
    picture(0).save(tmp_path / "test" / "hat" / "same.png")
    (group,) = find_duplicates(tmp_path).groups
    assert group.across_splits
    assert group.labels == ["boot", "hat"]
    assert (group.keep, group.leave_out) == ("test/hat/same.png", ["train/boot/0.png"])


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs Fashion-MNIST in MORPHOGEN_SHARED")
def test_distinct_items_of_fashion_mnist_are_not_merged() -> None:
    file = SHARED / "data" / "fashion-mnist" / "t10k-images-idx3-ubyte.gz"
    with gzip.open(file) as stream:
        pixels = np.frombuffer(stream.read(16 + 784 * 400)[16:], np.uint8).reshape(-1, 28, 28)
    originals = prints([Pillow.fromarray(image) for image in pixels])
    assert len(originals.pairs()) <= 2
    for kind in ("jpeg", "cropped", "mirrored"):
        twins = prints([TWINS[kind](Pillow.fromarray(image)) for image in pixels[:60]])
        found = {(i, j) for i, j, _ in originals.pairs_with(twins)}
        assert sum((i, i) in found for i in range(60)) >= 55
        assert sum(i != j for i, j in found) <= 1


def test_likeness_is_one_for_the_same_and_symmetric_under_mirroring() -> None:
    codec = Image()
    found = [codec.fingerprint(Item(picture(0))), codec.fingerprint(Item(picture(1)))]
    one, two = (torch.frombuffer(bytearray(f.detail), dtype=torch.uint8)[None] for f in found if f)
    key = torch.zeros(1, dtype=torch.long)
    assert float(codec.likeness(one, one, key)) == pytest.approx(1, abs=1e-5)
    assert float(codec.likeness(one, two, key)) < 0.9


def test_slopes_are_how_details_change_as_an_edge_moves() -> None:
    rows, columns = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    smooth = (torch.sin(columns / 4) * torch.cos(rows / 5))[None].double()
    edges = torch.tensor([[0.05, 0.02, 0.97, 0.93]]).double()
    slopes = with_slopes(seen(smooth, edges).float(), edges.float())[0]
    for edge in range(4):
        ends = []
        for sign in (1, -1):
            moved = edges.clone()
            moved[:, edge] += sign * 1e-3
            ends.append(with_slopes(seen(smooth, moved).float(), edges.float())[0, 0])
        change = (ends[0] - ends[1]) / 2e-3
        assert float(torch.cosine_similarity(change, slopes[1 + edge], dim=0)) > 0.98
        assert float(slopes[1 + edge].norm() / change.norm()) == pytest.approx(1, abs=0.1)


def test_coarse_details_are_the_low_frequencies_of_details() -> None:
    images = rand((4, SIDE, SIDE), generator(0))
    all_waves = waves(COARSE)
    rows, columns = all_waves.rows, all_waves.columns
    angle = (torch.arange(SIDE) + 0.5) * (torch.pi / SIDE)
    shapes = torch.einsum("ci,cj->cij", *(torch.cos(u[:, None] * angle) for u in (rows, columns)))
    shapes = (shapes / shapes.flatten(1).norm(dim=1)[:, None, None]).flatten(1)  # (C, R)
    for number, edges in enumerate(torch.tensor(views())):
        many = edges.expand(len(images), 4)
        expected = with_slopes(seen(images, many), many) @ shapes.T  # (N, 5, C)
        found = torch.einsum("nr,kcr->nkc", images.flatten(1), of_views()[number])
        torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)
    whole = of_views()[0, 0].T
    torch.testing.assert_close(
        images.flip(-1).flatten(1) @ whole, (images.flatten(1) @ whole) * all_waves.mirror
    )


def test_alike_items_do_not_make_loading_slow() -> None:
    """Blurred rings are alike by the thousand: comparing all pairs would take minutes."""
    draw = generator(0)
    y, x = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    size, centre = 1 + 2 * rand((600, 1, 1), draw), 3.5 + rand((600, 2), draw)
    away = ((y - centre[:, 0, None, None]) ** 2 + (x - centre[:, 1, None, None]) ** 2).sqrt()
    rings = (torch.exp(-((away - size) ** 2)) * 255).byte()
    prints = Fingerprints(Image())
    for number, ring in enumerate(rings):
        prints.see(number, Item(ring[..., None].numpy()))
    assert prints.pairs(most=100) is None
    assert len(Data.from_tensors(rings).train) > 400


def test_what_is_ruled_out_first_is_not_alike() -> None:
    """Fits of coarse details leave every pair that is recognised in the end, and few others."""
    originals = prints([picture(seed) for seed in range(60)])
    kept, wanted, num_near = set(), set(), 0
    for kind in ("jpeg", "cut unevenly", "mirrored, cropped, jpeg"):
        twins = prints([TWINS[kind](picture(seed)) for seed in range(60)])
        ours, theirs = originals.details(), twins.details()
        packed = (pack_keys([each.keys for each in some.prints]) for some in (originals, twins))
        i, j, key = pairs = near(*packed, Image.key_radius + 16)  # and some that keys would leave
        codec = Image()
        on = codec.promising(ours, theirs, codec.coarse(theirs), pairs)
        likeness = codec.likeness(ours[i], theirs[j], torch.from_numpy(key))
        alike = (likeness >= codec.same_from).numpy()
        kept |= {(kind, *pair) for pair in zip(i[on], j[on], strict=True)}
        wanted |= {(kind, *pair) for pair in zip(i[alike], j[alike], strict=True)}
        num_near += len(i)
    assert wanted <= kept
    assert len(wanted) > 150
    assert len(kept) - len(wanted) < 0.1 * (num_near - len(wanted))


def test_edges_on_the_grid_need_no_map_of_their_own() -> None:
    waves = Waves(6)
    images = (255 * rand((3, SIDE * SIDE), generator(0))).byte()
    edges = torch.tensor([[3, 0, 120, 128], [16, 8, 128, 112], [0, 0, 128, 128]]) / 128
    found = waves.between(images, edges)
    expected = torch.einsum("nr,nkcr->nkc", images.float(), waves.map_of(edges))
    torch.testing.assert_close(found, expected, atol=1e-2, rtol=1e-4)
    assert waves.between(images[:0], edges[:0]).shape == (0, 5, len(waves.rows))


def test_pairs_connect_all_that_are_alike_and_nothing_twice() -> None:
    """However many blocks of rows are judged at once, of which none knows what others find."""
    images = [picture(seed % 90) for seed in range(300)]  # every picture three times or four
    images = [jpeg(image, 60 + number % 40) for number, image in enumerate(images)]
    found = prints(images).pairs()
    assert found is not None
    roots = clusters(np.arange(300), [(i, j) for i, j, _ in found])
    assert np.array_equal(roots, np.arange(300) % 90)
    assert len(found) == 210
