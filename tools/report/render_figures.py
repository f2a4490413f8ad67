#!/usr/bin/env python3
"""Draws every Vega-Lite specification of a folder: x.vl.json becomes x.svg beside it.

Usage: render_figures.py FOLDER

Needs no network and reads no data but the specifications. Exit code 0: all drawn; 1: some failed
(one line each on stderr, the others are drawn); 2: wrong usage; 3: vl-convert-python is missing.
"""
import json
import os
import pathlib
import sys

PACKAGE = "vl-convert-python==1.9.*"
VEGA_LITE = "5.21"
SUFFIX = ".vl.json"


def draw(vl_convert, specification_path, version):
    text = specification_path.read_text(encoding="utf-8")
    json.loads(text)  # a clearer message than the converter's
    options = {"allowed_base_urls": []}
    if version:
        options["vl_version"] = version
    svg = vl_convert.vegalite_to_svg(text, **options)
    target = specification_path.with_name(specification_path.name[: -len(SUFFIX)] + ".svg")
    unfinished = target.with_name(target.name + ".unfinished")
    unfinished.write_text(svg, encoding="utf-8")
    os.replace(unfinished, target)


def main(arguments):
    if len(arguments) != 1 or not pathlib.Path(arguments[0]).is_dir():
        print("usage: render_figures.py FOLDER (with *.vl.json files)", file=sys.stderr)
        return 2
    try:
        import vl_convert
    except ImportError as error:
        print(
            f"{sys.executable} has no vl_convert ({error}): "
            f"run tools/setup, or pip install '{PACKAGE}'",
            file=sys.stderr,
        )
        return 3
    known = getattr(vl_convert, "get_vegalite_versions", lambda: [])()
    version = VEGA_LITE if VEGA_LITE in known else None
    failed = 0
    for path in sorted(pathlib.Path(arguments[0]).glob("*" + SUFFIX)):
        try:
            draw(vl_convert, path, version)
        except Exception as error:  # one bad figure must not cost the others
            failed += 1
            first_line = next(iter(str(error).strip().splitlines()), type(error).__name__)
            print(f"{path.name}: {first_line}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
