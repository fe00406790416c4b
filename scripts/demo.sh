#!/bin/sh
# From raw pictures to a trained generative model and its numbers, in about three minutes.
# Every line can be typed as it stands; `make demo` runs them all in the repository's environment.
set -eu
cd "$(dirname "$0")/.."
rm -rf demo
mkdir -p demo

echo "== 1. Data: 1,797 handwritten digits that ship inside scikit-learn, as files =="
python scripts/export_digits.py demo/digits

echo "== 2. What is in it, and what is wrong with it =="
morphogen inspect demo/digits

echo "== 3. Train on it for ${BUDGET:=90s} =="
morphogen train demo/digits --family flow_matching --budget "$BUDGET" --out demo/model

echo "== 4. New pictures =="
morphogen sample demo/model -n 64 --seed 0 --out demo/samples.png
morphogen sample demo/model -n 16 --label 3 --guidance 2 --out demo/threes.png

echo "== 5. What else it can do =="
morphogen tasks demo/model
morphogen task interpolate demo/model demo/digits/3/000.png demo/digits/8/000.png \
    --out demo/interpolate.png
morphogen task fill demo/model demo/digits/5/000.png --out demo/fill.png

echo "== 6. How good it is, beside what real pictures reach =="
morphogen evaluate demo/model --num 2000

echo "== 7. Whom to thank =="
morphogen cite demo/model > demo/references.bib
echo "$(grep -c '^@' demo/references.bib) entries in demo/references.bib"
