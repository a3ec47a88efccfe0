#!/usr/bin/env bash
# Fills .whl/ with the packages that Linnet needs and a machine with torch and transformers usually lacks,
# for Python 3.12 on x86-64 Linux. `make gpu-check` there unpacks them by itself. NAME==VERSION adds more.
set -euo pipefail
cd "$(dirname "$0")/../.."
mkdir -p .whl
platforms=(--platform manylinux2014_x86_64)
for glibc in 39 35 34 31 28 27 24 17; do platforms+=(--platform "manylinux_2_${glibc}_x86_64"); done
for package in pydantic==2.14.3 pydantic_core==2.50.4 annotated-types==0.8.0 typing-inspection==0.4.5 \
  typing_extensions==4.16.0 zstandard==0.25.0 "$@"; do
  "${PYTHON:-python3}" -m pip download -q --no-deps --only-binary=:all: --python-version 3.12 \
    --implementation cp "${platforms[@]}" -d .whl "$package"
done
ls -1 .whl
