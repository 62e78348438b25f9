/* ofa-runner: runs TFLite networks on a device for a host that decides what runs when.
 *
 *   ofa-runner LIBRARY DELEGATE THREADS     DELEGATE: xnnpack, gpu (also with -fp16), nnapi, none
 *
 * One process serves a whole batch. Commands come in on stdin, one a line; each is answered by
 * one line of JSON on stdout, in order, so a host may send many at once and read as they finish:
 *
 *   load ID START SIZE FILE   {"loaded":ID,"init_ns":..,"nodes":..,"delegated":..,"log":".."}
 *                         a network's bytes lie from START on in a file that may hold many
 *   visit ID WARM RUNS    {"visit":ID,"all_ns":..,"cpu_ns":..,"ns":[..]}
 *                         ns: of each timed run; cpu_ns: of them all; all_ns: untimed ones too
 *   feed ID INDEX FILE    {"fed":ID}         an input's bytes from a file
 *   dump ID INDEX FILE    {"dumped":ID}      an output's bytes to a file
 *   drop ID               {"dropped":ID}
 *
 * Answers are written when there is no further command to obey, and at least every 50 ms: a
 * reader that wakes up for each would take the processor from what is measured. What fails is
 * answered {"error":"..","id":ID} and the process goes on. It ends with its stdin,
 * so that nothing stays behind when the connection breaks. The TFLite library is opened at run
 * time: any build of its C interface will do, an Android AAR's libtensorflowlite_jni.so included.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#ifndef MODELS
#define MODELS 4096
#endif
#define FLOAT32 1
#define FLUSH_NS 50000000

typedef struct {
  void *model, *options, *interpreter, *delegate;
  void *mapped; /* the file, from the page on in which the network's bytes start */
  size_t mapped_size;
} Network;

/* The part of TFLite's C interface that is used; its types are opaque there as well. */
static struct {
  const char *(*Version)(void);
  void *(*ModelCreate)(const void *, size_t);
  void (*ModelDelete)(void *);
  void *(*InterpreterOptionsCreate)(void);
  void (*InterpreterOptionsDelete)(void *);
  void (*InterpreterOptionsSetNumThreads)(void *, int32_t);
  void (*InterpreterOptionsAddDelegate)(void *, void *);
  void *(*InterpreterCreate)(const void *, const void *);
  void (*InterpreterDelete)(void *);
  int (*InterpreterAllocateTensors)(void *);
  int (*InterpreterInvoke)(void *);
  int32_t (*InterpreterGetInputTensorCount)(const void *);
  void *(*InterpreterGetInputTensor)(const void *, int32_t);
  int32_t (*InterpreterGetOutputTensorCount)(const void *);
  const void *(*InterpreterGetOutputTensor)(const void *, int32_t);
  int (*TensorType)(const void *);
  size_t (*TensorByteSize)(const void *);
  void *(*TensorData)(const void *);
} tfl;

/* A delegate's options grow from version to version; what is here is larger than any, and what a
 * version does not know it does not read. The options of GPU and NNAPI are filled in by the library,
 * which returns them in memory of the caller. XNNPACK's fit into registers in some versions, so
 * that nobody can call for them without knowing which; all zero is their default in every one. */
typedef struct {
  int32_t first;   /* XNNPACK: num_threads; GPU: is_precision_loss_allowed */
  uint32_t second; /* XNNPACK, since TFLite 2.5: flags */
  char rest[504];
} Options;
#define XNNPACK_QS8 1u
#define XNNPACK_QU8 2u
#define XNNPACK_FORCE_FP16 4u

static struct {
  Options (*defaults)(void);
  void *(*create)(const void *);
  void (*destroy)(void *);
} delegate_of;

/* Each delegate's functions in a library: those of the GPU differ in where the V2 stands. */
static const struct {
  const char *name, *defaults, *create, *destroy;
  int has_half;
} delegates[] = {
    {"xnnpack", "XNNPackDelegateOptionsDefault", "XNNPackDelegateCreate", "XNNPackDelegateDelete", 1},
    {"gpu", "GpuDelegateOptionsV2Default", "GpuDelegateV2Create", "GpuDelegateV2Delete", 1},
    {"nnapi", "NnapiDelegateOptionsDefault", "NnapiDelegateCreate", "NnapiDelegateDelete", 0},
};

/* The beginnings of three structures of TFLite's C interface, unchanged since 2.3: enough to look
 * at the graph that a delegate has left behind, which no function of the interface tells. */
typedef struct {
  int32_t size, data[];
} IntArray;
typedef struct {
  void *init, *free, *prepare, *invoke, *profiling_string;
  int32_t builtin_code;
} Registration;
typedef struct Context {
  size_t tensors_size;
  int (*GetExecutionPlan)(struct Context *, IntArray **);
  void *tensors, *impl, *ResizeTensor, *ReportError, *AddTensors;
  int (*GetNodeAndRegistration)(struct Context *, int, void **, Registration **);
} Context;
typedef struct Delegate {
  void *data;
  int (*Prepare)(Context *, struct Delegate *);
} Delegate;
#define BUILTIN_DELEGATE 51

static int (*delegate_prepare)(Context *, Delegate *);
static int nodes, delegated; /* of the network being loaded; -1 as long as nobody has looked */
static int left[16], left_size; /* codes of the first operators that the delegate left behind */

static Network networks[MODELS];
static const char *delegate_name;
static int threads, half;
static int log_end; /* of the pipe that catches what the library writes to stderr */

static int64_t now_ns(clockid_t clock) {
  struct timespec t;
  clock_gettime(clock, &t);
  return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static void print_quoted(const char *text) {
  putchar('"');
  for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
    if (*c == '"' || *c == '\\')
      printf("\\%c", *c);
    else if (*c < 0x20)
      printf("\\u%04x", *c);
    else
      putchar(*c);
  }
  putchar('"');
}

static int failed(int id, const char *format, ...) {
  char text[1024];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  printf("{\"error\":");
  print_quoted(text);
  printf(",\"id\":%d}\n", id);
  return -1;
}

static void *symbol(void *library, const char *name) {
  char full[128];
  snprintf(full, sizeof full, "TfLite%s", name);
  return dlsym(library, full);
}

/* Whether the delegate is this one, in single or half precision. */
static int delegate_is(const char *name) {
  size_t size = strlen(name);
  const char *rest = delegate_name + size;
  return !strncmp(delegate_name, name, size) && (!*rest || !strcmp(rest, "-fp16"));
}

static int bind_delegate(void *library, const char *path) {
  if (!strcmp(delegate_name, "none")) return 0;
  char beside[4096] = "";
  if (delegate_is("gpu")) { /* Android archives have it in a library of its own, beside */
    const char *slash = strrchr(path, '/');
    snprintf(beside, sizeof beside, "%.*slibtensorflowlite_gpu_jni.so",
             slash ? (int)(slash + 1 - path) : 0, path);
    if (!access(beside, F_OK)) {
      library = dlopen(beside, RTLD_NOW | RTLD_GLOBAL);
      if (!library) return failed(-1, "cannot open the library of the delegate: %s", dlerror());
      path = beside;
    }
  }
  for (size_t i = 0; i < sizeof delegates / sizeof *delegates; i++) {
    if (!delegate_is(delegates[i].name) || half > delegates[i].has_half) continue;
    *(void **)&delegate_of.defaults = symbol(library, delegates[i].defaults);
    *(void **)&delegate_of.create = symbol(library, delegates[i].create);
    *(void **)&delegate_of.destroy = symbol(library, delegates[i].destroy);
    if (!delegate_of.defaults || !delegate_of.create || !delegate_of.destroy)
      return failed(-1, "%s has no delegate %s", path, delegate_name);
    return 0;
  }
  return failed(-1, "there is no delegate %s", delegate_name);
}

static int bind_library(const char *path) {
  void *library = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
  if (!library) return failed(-1, "cannot open the TFLite library: %s", dlerror());
#define BIND(name)                                                                   \
  if (!(*(void **)&tfl.name = symbol(library, #name)))                                \
    return failed(-1, "%s has no function TfLite" #name "; it is no TFLite C library", path);
  BIND(Version)
  BIND(ModelCreate)
  BIND(ModelDelete)
  BIND(InterpreterOptionsCreate)
  BIND(InterpreterOptionsDelete)
  BIND(InterpreterOptionsSetNumThreads)
  BIND(InterpreterOptionsAddDelegate)
  BIND(InterpreterCreate)
  BIND(InterpreterDelete)
  BIND(InterpreterAllocateTensors)
  BIND(InterpreterInvoke)
  BIND(InterpreterGetInputTensorCount)
  BIND(InterpreterGetInputTensor)
  BIND(InterpreterGetOutputTensorCount)
  BIND(InterpreterGetOutputTensor)
  BIND(TensorType)
  BIND(TensorByteSize)
  BIND(TensorData)
#undef BIND
  return bind_delegate(library, path);
}

/* Stands in for a delegate's own Prepare and counts the nodes before and after it. */
static int prepare_and_count(Context *context, Delegate *delegate) {
  IntArray *plan;
  if (context->GetExecutionPlan(context, &plan)) return 1;
  nodes = plan->size;
  int status = delegate_prepare(context, delegate);
  if (status || context->GetExecutionPlan(context, &plan)) return status;
  delegated = nodes;
  for (int i = 0; i < plan->size; i++) {
    void *node;
    Registration *registration;
    if (context->GetNodeAndRegistration(context, plan->data[i], &node, &registration)) return 1;
    if (registration->builtin_code == BUILTIN_DELEGATE) continue;
    delegated--;
    if (left_size < (int)(sizeof left / sizeof *left)) left[left_size++] = registration->builtin_code;
  }
  return 0;
}

static void *make_delegate(void) {
  Options options;
  memset(&options, 0, sizeof options);
  if (delegate_is("xnnpack")) {
    options.first = threads;
    options.second = XNNPACK_QS8 | XNNPACK_QU8 | (half ? XNNPACK_FORCE_FP16 : 0);
  } else {
    options = delegate_of.defaults();
    if (delegate_is("gpu")) options.first = half;
  }
  Delegate *delegate = delegate_of.create(&options);
  if (delegate && delegate->Prepare) {
    delegate_prepare = delegate->Prepare;
    delegate->Prepare = prepare_and_count;
  }
  return delegate;
}

static void drop(Network *network) {
  if (network->interpreter) tfl.InterpreterDelete(network->interpreter);
  if (network->delegate) delegate_of.destroy(network->delegate);
  if (network->options) tfl.InterpreterOptionsDelete(network->options);
  if (network->model) tfl.ModelDelete(network->model);
  if (network->mapped) munmap(network->mapped, network->mapped_size);
  memset(network, 0, sizeof *network);
}

static void fill_inputs(void *interpreter) {
  uint32_t state = 1;
  for (int i = 0; i < tfl.InterpreterGetInputTensorCount(interpreter); i++) {
    void *tensor = tfl.InterpreterGetInputTensor(interpreter, i);
    size_t size = tfl.TensorByteSize(tensor);
    unsigned char *data = tfl.TensorData(tensor);
    if (tfl.TensorType(tensor) == FLOAT32) {
      for (size_t j = 0; j < size / 4; j++) {
        state = state * 1664525u + 1013904223u;
        ((float *)data)[j] = (float)(state >> 8) / (float)(1 << 23) - 1.0f;
      }
    } else {
      for (size_t j = 0; j < size; j++) {
        state = state * 1664525u + 1013904223u;
        data[j] = (unsigned char)(state >> 24);
      }
    }
  }
}

/* What the library has written to stderr since the last call: how much a delegate took over. */
static const char *logged(void) {
  static char text[8192];
  size_t size = 0;
  ssize_t n;
  fflush(stderr);
  while (size < sizeof text - 1 && (n = read(log_end, text + size, sizeof text - 1 - size)) > 0)
    size += (size_t)n;
  text[size] = 0;
  return text;
}

/* A network's bytes, mapped from a file; NULL with errno set. */
static const char *map_network(Network *network, const char *path, size_t start, size_t size) {
  struct stat file;
  size_t skipped = start % (size_t)sysconf(_SC_PAGESIZE);
  int descriptor = open(path, O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return NULL;
  void *mapped = MAP_FAILED;
  errno = EINVAL; /* of a range outside the file, whose bytes could not be read */
  if (!fstat(descriptor, &file) && size && start + size <= (size_t)file.st_size)
    mapped = mmap(NULL, skipped + size, PROT_READ, MAP_PRIVATE, descriptor, (off_t)(start - skipped));
  close(descriptor);
  if (mapped == MAP_FAILED) return NULL;
  network->mapped = mapped;
  network->mapped_size = skipped + size;
  return (const char *)mapped + skipped;
}

static int load(int id, size_t start, size_t size, const char *path) {
  Network *network = &networks[id];
  drop(network);
  logged();
  nodes = delegated = -1;
  left_size = 0;
  int64_t started_ns = now_ns(CLOCK_MONOTONIC);
  const char *bytes = map_network(network, path, start, size);
  if (!bytes) return failed(id, "cannot read the network in %s: %s", path, strerror(errno));
  network->model = tfl.ModelCreate(bytes, size);
  if (!network->model) {
    drop(network);
    return failed(id, "what lies in %s is no network: %s", path, logged());
  }
  network->options = tfl.InterpreterOptionsCreate();
  tfl.InterpreterOptionsSetNumThreads(network->options, threads);
  if (delegate_of.create) {
    network->delegate = make_delegate();
    if (!network->delegate) {
      drop(network);
      return failed(id, "delegate %s cannot be made: %s", delegate_name, logged());
    }
    tfl.InterpreterOptionsAddDelegate(network->options, network->delegate);
  }
  network->interpreter = tfl.InterpreterCreate(network->model, network->options);
  if (!network->interpreter || tfl.InterpreterAllocateTensors(network->interpreter)) {
    drop(network);
    return failed(id, "no interpreter for %s: %s", path, logged());
  }
  int64_t init_ns = now_ns(CLOCK_MONOTONIC) - started_ns;
  fill_inputs(network->interpreter);
  printf("{\"loaded\":%d,\"init_ns\":%" PRId64 ",\"nodes\":%d,\"delegated\":%d,\"left\":[", id,
         init_ns, nodes, delegated);
  for (int i = 0; i < left_size; i++) printf(i ? ",%d" : "%d", left[i]);
  printf("],\"log\":");
  print_quoted(logged());
  printf("}\n");
  return 0;
}

static int visit(int id, long warm, long runs) {
  void *interpreter = networks[id].interpreter;
  int64_t *ns = malloc((size_t)runs * sizeof *ns);
  int bad = !ns;
  int64_t all_ns = now_ns(CLOCK_MONOTONIC);
  for (long i = 0; i < warm && !bad; i++) bad = tfl.InterpreterInvoke(interpreter);
  int64_t cpu_ns = now_ns(CLOCK_PROCESS_CPUTIME_ID);
  for (long i = 0; i < runs && !bad; i++) {
    int64_t started_ns = now_ns(CLOCK_MONOTONIC);
    bad = tfl.InterpreterInvoke(interpreter);
    ns[i] = now_ns(CLOCK_MONOTONIC) - started_ns;
  }
  cpu_ns = now_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu_ns;
  all_ns = now_ns(CLOCK_MONOTONIC) - all_ns;
  if (bad) {
    free(ns);
    return failed(id, "an inference failed: %s", logged());
  }
  printf("{\"visit\":%d,\"all_ns\":%" PRId64 ",\"cpu_ns\":%" PRId64 ",\"ns\":[", id, all_ns, cpu_ns);
  for (long i = 0; i < runs; i++) printf(i ? ",%" PRId64 : "%" PRId64, ns[i]);
  printf("]}\n");
  free(ns);
  return 0;
}

static int copy_file(int id, const char *path, const char *mode, void *data, size_t size) {
  FILE *file = fopen(path, mode);
  if (!file) return failed(id, "cannot open %s: %s", path, strerror(errno));
  size_t done = *mode == 'r' ? fread(data, 1, size, file) : fwrite(data, 1, size, file);
  int end = *mode == 'r' ? fgetc(file) : EOF; /* a longer file is another tensor's */
  if (fclose(file) || done != size || end != EOF)
    return failed(id, "%s does not hold the %zu bytes of the tensor", path, size);
  return 0;
}

static int feed(int id, int index, const char *path) {
  void *interpreter = networks[id].interpreter;
  if (index < 0 || index >= tfl.InterpreterGetInputTensorCount(interpreter))
    return failed(id, "there is no input %d", index);
  void *tensor = tfl.InterpreterGetInputTensor(interpreter, index);
  if (copy_file(id, path, "rb", tfl.TensorData(tensor), tfl.TensorByteSize(tensor))) return -1;
  printf("{\"fed\":%d}\n", id);
  return 0;
}

static int dump(int id, int index, const char *path) {
  void *interpreter = networks[id].interpreter;
  if (index < 0 || index >= tfl.InterpreterGetOutputTensorCount(interpreter))
    return failed(id, "there is no output %d", index);
  const void *tensor = tfl.InterpreterGetOutputTensor(interpreter, index);
  if (copy_file(id, path, "wb", tfl.TensorData(tensor), tfl.TensorByteSize(tensor))) return -1;
  printf("{\"dumped\":%d}\n", id);
  return 0;
}

static int obey(char *line) {
  int id = -1, index = -1, at = 0;
  long warm = -1, runs = -1;
  size_t start = 0, size = 0;
  char command[16] = "";
  if (sscanf(line, "%15s %d", command, &id) < 2 || id < 0 || id >= MODELS)
    return failed(id, "what is '%s'?", line);
  if (!strcmp(command, "load") && sscanf(line, "%*s %*d %zu %zu %n", &start, &size, &at) == 2 &&
      line[at])
    return load(id, start, size, line + at);
  if (!networks[id].interpreter) return failed(id, "no network %d is loaded", id);
  if (!strcmp(command, "visit") && sscanf(line, "%*s %*d %ld %ld", &warm, &runs) == 2 &&
      warm >= 0 && runs > 0 && runs <= 10000000)
    return visit(id, warm, runs);
  if (!strcmp(command, "feed") && sscanf(line, "%*s %*d %d %n", &index, &at) == 1 && line[at])
    return feed(id, index, line + at);
  if (!strcmp(command, "dump") && sscanf(line, "%*s %*d %d %n", &index, &at) == 1 && line[at])
    return dump(id, index, line + at);
  if (!strcmp(command, "drop")) {
    drop(&networks[id]);
    printf("{\"dropped\":%d}\n", id);
    return 0;
  }
  return failed(id, "what is '%s'?", line);
}

static void print_ready(void) {
  printf("{\"ready\":1,\"tflite\":");
  print_quoted(tfl.Version());
  printf(",\"pid\":%d,\"cpus\":[", (int)getpid());
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  sched_getaffinity(0, sizeof cpus, &cpus);
  for (int i = 0, first = 1; i < CPU_SETSIZE; i++)
    if (CPU_ISSET(i, &cpus)) {
      printf(first ? "%d" : ",%d", i);
      first = 0;
    }
  printf("]}\n");
}

/* The next command; NULL at the end of stdin, or of a command longer than any. */
static char *next_command(void) {
  static char text[1 << 16];
  static size_t taken, filled;
  static int64_t flushed_ns;
  for (;;) {
    char *end = memchr(text + taken, '\n', filled - taken);
    if (end) {
      char *line = text + taken;
      *end = 0;
      taken = (size_t)(end + 1 - text);
      if (now_ns(CLOCK_MONOTONIC) - flushed_ns > FLUSH_NS) {
        fflush(stdout);
        flushed_ns = now_ns(CLOCK_MONOTONIC);
      }
      return line;
    }
    memmove(text, text + taken, filled - taken);
    filled -= taken;
    taken = 0;
    fflush(stdout);
    flushed_ns = now_ns(CLOCK_MONOTONIC);
    ssize_t n = read(STDIN_FILENO, text + filled, sizeof text - filled);
    if (n <= 0) return NULL;
    filled += (size_t)n;
  }
}

int main(int count, char **arguments) {
  static char out[1 << 16];
  setvbuf(stdout, out, _IOFBF, sizeof out);
  if (count != 4 || (threads = atoi(arguments[3])) < 1) {
    fprintf(stderr, "usage: ofa-runner LIBRARY DELEGATE THREADS\n");
    return 2;
  }
  delegate_name = arguments[2];
  half = strstr(delegate_name, "-fp16") != NULL;
  int ends[2];
  if (pipe(ends) || fcntl(ends[0], F_SETFL, O_NONBLOCK) || fcntl(ends[1], F_SETFL, O_NONBLOCK))
    return 3;
  log_end = ends[0];
  dup2(ends[1], STDERR_FILENO);
  if (bind_library(arguments[1])) {
    fflush(stdout);
    return 1;
  }
  print_ready();
  for (char *line; (line = next_command());) obey(line);
  return 0;
}
