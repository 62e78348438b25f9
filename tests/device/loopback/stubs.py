"""Small libraries, built on the spot, that stand around TFLite's own and do one thing of theirs."""

from __future__ import annotations

import zipfile
from pathlib import Path

from loopback.packages import run

# The GPU's delegate by the names that TFLite gives it. It hands each network to XNNPACK, and only
# if its options are as they were made, with the one change that half precision makes.
_GPU = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
typedef struct { int32_t half, preference, priorities[3]; int64_t flags; int32_t most; } Options;
Options TfLiteGpuDelegateOptionsV2Default(void) {
  Options options = {-1, 1, {2, 3, 4}, 5, 6};
  return options;
}
void *TfLiteGpuDelegateV2Create(const Options *o) {
  int32_t xnnpack[64] = {1};
  void *(*create)(const void *) = dlsym(RTLD_DEFAULT, "TfLiteXNNPackDelegateCreate");
  return o->half == HALF && o->priorities[2] == 4 && o->flags == 5 && o->most == 6
      ? create(xnnpack) : 0;
}
void TfLiteGpuDelegateV2Delete(void *delegate) {
  ((void (*)(void *))dlsym(RTLD_DEFAULT, "TfLiteXNNPackDelegateDelete"))(delegate);
}
"""

# TFLite, but it dies of networks of one size: when it loads them, or when it runs them.
_DEADLY = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
static void *fatal_model, *fatal_interpreter;
void *TfLiteModelCreate(const void *bytes, size_t size) {
  if (size == LOADED) abort();
  void *(*create)(const void *, size_t) = dlsym(RTLD_NEXT, "TfLiteModelCreate");
  void *model = create(bytes, size);
  if (size == RUN) fatal_model = model;
  return model;
}
void *TfLiteInterpreterCreate(const void *model, const void *options) {
  void *(*create)(const void *, const void *) = dlsym(RTLD_NEXT, "TfLiteInterpreterCreate");
  void *interpreter = create(model, options);
  if (model == fatal_model) fatal_interpreter = interpreter;
  return interpreter;
}
int TfLiteInterpreterInvoke(void *interpreter) {
  if (interpreter == fatal_interpreter) abort();
  return ((int (*)(void *))dlsym(RTLD_NEXT, "TfLiteInterpreterInvoke"))(interpreter);
}
"""


def gpu_library(folder: Path, *, half: bool = False) -> Path:
    """A library with the GPU's delegate, under the name that it has in Android archives."""
    path = folder / "libtensorflowlite_gpu_jni.so"
    _build(_GPU, path, f"-DHALF={int(half)}")
    return path


def deadly_library(real: Path, folder: Path, *, loaded: int = -1, run: int = -1) -> Path:
    """An archive with TFLite that dies of networks of a size, when `loaded` or when `run`."""
    stub = folder / "stub.so"
    needed = ["-Wl,--no-as-needed", f"-L{real.parent}", f"-l:{real.name}", "-Wl,-rpath,$ORIGIN"]
    _build(_DEADLY, stub, f"-DLOADED={loaded}", f"-DRUN={run}", *needed)
    path = folder / "deadly.aar"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(stub, "jni/x86_64/libtensorflowlite_jni.so")
        archive.write(real, f"jni/x86_64/{real.name}")
    return path


def _build(code: str, path: Path, *arguments: str) -> None:
    source = path.with_suffix(".c")
    source.write_text(code)
    run(["cc", "-shared", "-fPIC", "-O1", "-w", "-o", str(path), str(source), *arguments, "-ldl"])
