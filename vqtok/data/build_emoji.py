"""Builds the embedded emoji pack from the four npm packages that carry Microsoft's Fluent emoji (MIT).

    npm install @iconify-json/fluent-emoji@1.2.7 @iconify-json/fluent-emoji-flat@1.2.6 \
        @iconify-json/fluent-emoji-high-contrast@1.2.6 @lobehub/fluent-emoji-3d@1.1.0
    pip install "vqtok[data]"
    python -m vqtok.data.build_emoji node_modules

Writes `emoji.parquet` (one row a name and skin tone; 64-pixel RGBA pictures as WebP bytes) and `SHA256`
beside it. Names are split into train, validation and test by groups of look-alikes, so that no test name has
a twin in train.

Letters: h w image, n names.
"""

import argparse
import hashlib
import io
import json
import re
from multiprocessing import Pool
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

SIZE = 64
PACK = Path(__file__).parent / "emoji_pack"
INK = "#3b3b3b"  # the line art says currentColor: a dark gray keeps it apart from pure black masks
TONES = ("", "-light", "-medium-light", "-medium", "-medium-dark", "-dark")
STYLES = {"shaded": "fluent-emoji", "flat": "fluent-emoji-flat", "line": "fluent-emoji-high-contrast"}
SHARES = {"test": 0.12, "validation": 0.06}  # of the names; the rest is train
TWIN_RMSE = 0.065  # two names closer than this at 16x16 in some style are look-alikes
LARGEST_HELD_OUT_GROUP = 12  # a larger family (clock faces, people) stays in train whole

# First match wins. What stands left of the colon is a family that no pixel test is needed for.
FAMILIES = {
    "clock": r".*-(oclock|thirty)$",
    "moon": r".*(moon|moon-face)$",
    "mailbox": r".*mailbox.*",
    "keycap": r"keycap-.*",
    "japanese button": r"japanese-.*-button$",
    "heart": r".*-heart$|heart-suit|heart-decoration",
    "circle": r"(?!.*hollow).*-circle$|radio-button",
    "square": r".*-(large-|medium-|medium-small-|small-)?square(-button)?$",
    "diamond": r"(large|small)-(blue|orange)-diamond$",
    "book": r"(blue|green|orange|closed|red)-book$",
    "arrow": r".*arrow(s)?(-.*)?$",
    "button": r".*-button(-blood-type)?$|input-.*",
    "zodiac": r"(aries|taurus|gemini|cancer|leo|virgo|libra|scorpio|sagittarius|capricorn|aquarius|pisces|"
    r"ophiuchus)$",
    "bust": r"(man|woman|person|boy|girl|child|baby|old-man|old-woman|older-person)$",
    "hand": r".*(hand|hands|fist|thumbs|finger|index).*",
    "envelope": r".*(envelope|e-mail|love-letter)$|.*mail$",
    "banknote": r".*banknote$",
    "mark": r".*(exclamation|question)-mark.*|exclamation-.*",
    "speaker": r".*speaker.*",
    "cloud": r"(sun-behind|cloud).*",
    "globe": r"globe-showing.*",
    "mobile": r"mobile-phone.*",
    "medal": r"\d.*-place-medal$",
    "card file": r"card-(file|index).*|tear-off-calendar|calendar",
    "sunset": r"(sunrise|sunset|cityscape).*",
    "house": r"house(s|-with-garden)?$",
    "cat face": r".*cat(-face)?(-with-.*)?$",
    "monkey": r".*-monkey$",
    "magnifier": r"magnifying-glass.*",
    "traffic light": r".*traffic-light$",
    "lock": r"(un)?locked.*",
    "chart": r"chart-.*",
    "hourglass": r"hourglass.*",
    "recycling": r"(up|down)wards?-.*",
}


def family(name: str) -> str:
    """Group that the spelling of `name` alone decides: gender and direction do not make a new drawing."""
    plain = re.sub(r"^(man|woman|person|mens|womens|womans|mans|mx|mrs)-", "person-", name)
    plain = plain.removesuffix("-facing-right")
    plain = re.sub(
        r"^(police-officer|detective|guard|ninja|construction-worker|artist|astronaut|cook|pilot|judge|"
        r"farmer|firefighter|health-worker|mechanic|office-worker|scientist|singer|student|teacher|"
        r"technologist|factory-worker|fairy|elf|genie|mage|vampire|zombie|superhero|supervillain|merman|"
        r"mermaid|merpeople|merperson)$",
        r"person-\1",
        plain,
    )
    return next((label for label, pattern in FAMILIES.items() if re.match(pattern, name)), plain)


def rasterize(body: str) -> np.ndarray:
    """(h, w, 4) uint8 RGBA of one SVG body on a 32x32 grid."""
    import resvg_py

    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'width="{SIZE}" height="{SIZE}" viewBox="0 0 32 32">{body.replace("currentColor", INK)}</svg>'
    )
    png = bytes(resvg_py.svg_to_bytes(svg_string=svg))
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"))


def webp(pixels: np.ndarray, quality: int | None = None) -> bytes:
    """WebP bytes of (h, w, 4) uint8; lossless without a quality."""
    out = io.BytesIO()
    options = {"lossless": True} if quality is None else {"quality": quality}
    Image.fromarray(pixels).save(out, "WEBP", method=4, **options)
    return out.getvalue()


def quality(entry: dict, style: str) -> int | None:
    """WebP quality, None for lossless: 3-D renders and shaded skin tones alone would take 10 MB lossless."""
    return 85 if style == "solid" or (style == "shaded" and entry["tone"]) else None


def on_white(pixels: np.ndarray) -> np.ndarray:
    """(h, w, 3) float in [0, 1] of (h, w, 4) uint8."""
    alpha = pixels[..., 3:] / 255
    return pixels[..., :3] / 255 * alpha + 1 - alpha


def thumbnail(pixels: np.ndarray) -> np.ndarray:
    """(768,) float32 in [0, 1]: (h, w, 4) uint8 on white at 16x16, which look-alikes are found by."""
    image = Image.fromarray((on_white(pixels) * 255).astype(np.uint8))
    return np.asarray(image.resize((16, 16), Image.BOX), dtype=np.float32).ravel() / 255


def join(point: str) -> str:
    """Code points without the emoji variation selector, the key that all packages share."""
    return "-".join(part for part in point.lower().split("-") if part != "fe0f")


def render(job: tuple[str, str]) -> np.ndarray:
    """One picture: an SVG body, or the path of a 3-D render."""
    kind, value = job
    if kind == "svg":
        return rasterize(value)
    return np.asarray(Image.open(value).convert("RGBA").resize((SIZE, SIZE), Image.LANCZOS))


def jobs(modules: Path) -> list[dict]:
    """One entry a name and skin tone: name, tone, code point, category and what to draw in each style."""
    icons = {
        style: json.loads((modules / "@iconify-json" / package / "icons.json").read_text())["icons"]
        for style, package in STYLES.items()
    }
    flat = modules / "@iconify-json" / STYLES["flat"]
    points = {name: point for point, name in json.loads((flat / "chars.json").read_text()).items()}
    categories = {
        name: category
        for category, names in json.loads((flat / "metadata.json").read_text())["categories"].items()
        for name in names
    }
    renders = {join(path.stem): path for path in (modules / "@lobehub/fluent-emoji-3d/assets").glob("*.webp")}
    entries = []
    for name in sorted(icons["line"]):
        for tone, suffix in enumerate(TONES):
            full = name + suffix
            if full not in icons["shaded"] or full not in icons["flat"] or (tone and full in icons["line"]):
                continue
            draw = {style: ("svg", icons[style][full]["body"]) for style in STYLES if full in icons[style]}
            render_path = renders.get(join(points.get(full, "?")))
            if render_path and not tone:
                draw["solid"] = ("file", str(render_path))
            entries.append(
                {
                    "name": name,
                    "tone": tone,
                    "point": points.get(full, ""),
                    "category": categories.get(full, ""),
                    "draw": draw,
                }
            )
    return entries


def groups(entries: list[dict]) -> dict[str, str]:
    """Name -> name of its group of look-alikes, by spelling and by pixels (transitive)."""
    base = [entry for entry in entries if entry["tone"] == 0]
    parent = {entry["name"]: entry["name"] for entry in base}

    def find(name: str) -> str:
        while parent[name] != name:
            parent[name] = name = parent[parent[name]]
        return name

    first: dict[str, str] = {}
    for entry in base:
        parent[find(entry["name"])] = find(first.setdefault(family(entry["name"]), entry["name"]))
    for style in STYLES:
        small = np.stack([thumbnail(entry["pixels"][style]) for entry in base])
        norms = (small**2).sum(1)
        distance = np.sqrt(np.maximum(norms[:, None] + norms - 2 * small @ small.T, 0) / small.shape[1])
        for i, j in np.argwhere(np.triu(distance < TWIN_RMSE, 1)):
            parent[find(base[i]["name"])] = find(base[j]["name"])
    return {name: find(name) for name in parent}


def split(group_of: dict[str, str]) -> dict[str, str]:
    """Group -> train, validation or test: small groups in the order of their names' hashes fill both."""
    members: dict[str, list[str]] = {}
    for name, group in group_of.items():
        members.setdefault(group, []).append(name)
    order = sorted(members, key=lambda group: hashlib.sha256(min(members[group]).encode()).hexdigest())
    chosen = dict.fromkeys(members, "train")
    small = iter([group for group in order if len(members[group]) <= LARGEST_HELD_OUT_GROUP])
    for part, share in SHARES.items():
        filled = 0
        while filled < share * len(group_of):
            group = next(small)
            chosen[group] = part
            filled += len(members[group])
    return chosen


def build(modules: Path, out: Path = PACK) -> Path:
    """Writes the pack into `out` and returns the Parquet file."""
    entries = jobs(modules)
    with Pool() as pool:
        todo = [(entry, style) for entry in entries for style in entry["draw"]]
        pictures = pool.map(render, [entry["draw"][style] for entry, style in todo], chunksize=32)
        for (entry, style), pixels in zip(todo, pictures, strict=True):
            entry.setdefault("pixels", {})[style] = pixels
        packed = pool.starmap(
            webp, [(entry["pixels"][style], quality(entry, style)) for entry, style in todo], chunksize=32
        )
    for (entry, style), data in zip(todo, packed, strict=True):
        entry[style] = data
    group_of = groups(entries)
    part_of = split(group_of)
    rows = [
        {
            "name": e["name"].replace("-", " "),
            "tone": e["tone"],
            "point": e["point"],
            "category": e["category"],
            "group": group_of[e["name"]].replace("-", " "),
            "split": part_of[group_of[e["name"]]],
            **{style: e.get(style) for style in (*STYLES, "solid")},
        }
        for e in entries
    ]
    path = out / "emoji.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path, compression="none")
    (out / "SHA256").write_text(hashlib.sha256(path.read_bytes()).hexdigest() + "\n")
    return path


def main() -> None:
    """`python -m vqtok.data.build_emoji NODE_MODULES`."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("modules", type=Path, help="the node_modules folder that npm filled")
    print(build(parser.parse_args().modules))


if __name__ == "__main__":
    main()
