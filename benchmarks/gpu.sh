#!/usr/bin/env bash
# All that is checked and measured on a GPU: benchmarks/gpu.sh FOLDER [PART…]
# Each part has a time limit, and the others go on where one fails. FOLDER gets their whole output,
# and table.txt, what is printed last.
set -u
cd "$(dirname "$0")/.." || exit 1
folder=${1:?a folder for the results}
shift
parts=" ${*:-machine tests precision step finetune together folds} "
python=${PYTHON:-python}
mkdir -p "$folder"
export PYTHONUNBUFFERED=1 NO_ALBUMENTATIONS_UPDATE=1 PYTHONPATH="${PYTHONPATH:+$PYTHONPATH:}$PWD"
export TORCHINDUCTOR_CACHE_DIR=${TORCHINDUCTOR_CACHE_DIR:-$(mktemp -d)}
table=$folder/table.txt
: > "$table"

part() { # NAME SECONDS LINES COMMAND…: LINES is a pattern of what comes into the table
  local name=$1 limit=$2 lines=$3 start=$SECONDS; shift 3
  [[ $parts == *" $name "* ]] || return 0
  echo "== $name"
  timeout --kill-after=5 "$limit" "$@" > "$folder/$name.txt" 2>&1
  local code=$?
  tail -n 25 "$folder/$name.txt"
  { echo "== $name: exit code $code, $((SECONDS - start)) s"; grep -E "$lines" "$folder/$name.txt"; } >> "$table"
}

part machine 30 . bash -c "nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader
  $python - <<'END'
import platform
from importlib.metadata import version
names = 'torch triton torchvision timm numpy pandas scipy scikit-learn opencv-python-headless pydantic albumentations pytest'
print(platform.python_version(), *(f'{name} {version(name)}' for name in names.split()))
END"
part tests 140 '^(FAILED|ERROR|[0-9]+ (passed|failed|skipped|error)|=+ .*(passed|failed|error)|SKIPPED|E  )' \
  "$python" -m pytest -q -W default -p no:cacheprovider -p no:benchmark -n 6 --dist load --durations=10 tests/test_gpu.py
part precision 60 'images/s|Error' "$python" -m benchmarks.gpu precision
part step 100 'met |MISSED|training|one batch|Error' \
  "$python" -m benchmarks.step --images 2000 --epochs 12 --rounds 1 --compiled
part finetune 80 'images/s|×|Error' "$python" -m benchmarks.gpu finetune
part together 60 'images/s|Error' "$python" -m benchmarks.gpu together
part folds 100 ' s$|images/s|accuracy|cells|Error' "$python" -m benchmarks.gpu folds
echo
cat "$table"
