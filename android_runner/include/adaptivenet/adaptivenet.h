/* AdaptiveNet's serving core for C; include/adaptivenet/model.h is its face for C++.
 *
 * A model is a pack and a profile (docs/serving.md). One subnet of it serves; others are loaded beside it by a thread
 * of the model's own, and the swap is between two inferences. What serves is chosen under budgets, from how long
 * inferences take and from what the caller tells of the device (docs/adapting.md), or by name.
 *
 * Threads: every function may be called from any thread at any time, but for `adaptivenet_close`, which must be the
 * last call of its model and come after all others have returned. Several threads that infer take turns.
 *
 * Memory: strings and arrays that are given are read before a call returns, and stay the caller's. What a function
 * returns belongs to the model, and to the library where it has no model, as is said there. Only the model itself must
 * be released, by `adaptivenet_close`.
 *
 * Errors: functions return a code; `adaptivenet_last_error` has a sentence. No exception leaves this library.
 *
 * The process: no signal handler is installed, nothing is printed but what the engines print, and ExecuTorch's pool of
 * threads, which the process has one of, is changed only where a number of threads is asked for.
 */
#ifndef ADAPTIVENET_ADAPTIVENET_H_
#define ADAPTIVENET_ADAPTIVENET_H_

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define ADAPTIVENET_API __attribute__((visibility("default")))
#else
#define ADAPTIVENET_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* A pack that is open to infer with. */
typedef struct adaptivenet_model adaptivenet_model;

typedef enum adaptivenet_code {
  ADAPTIVENET_OK = 0,
  ADAPTIVENET_BAD_ARGUMENT = 1, /* a null pointer, a size or a name that does not fit */
  ADAPTIVENET_BAD_PACK = 2,     /* the pack is damaged, or has no programs for the engine */
  ADAPTIVENET_BAD_PROFILE = 3,  /* the profile is damaged, or of another pack, engine or number of threads */
  ADAPTIVENET_BAD_BUDGET = 4,   /* a budget is no positive number */
  ADAPTIVENET_FAILED = 5        /* the engine or the machine: loading or inferring failed, or nothing serves */
} adaptivenet_code;

/* The last error of the calling thread, in one line of English; "" before the first. It is the library's, and valid
 * until the next call from this thread that fails. */
ADAPTIVENET_API const char* adaptivenet_last_error(void);

/* Of this library, as "0.1.0+f3a83f0b17d2.9c01d2": of the package, and digests of what it was built from. The
 * library's. */
ADAPTIVENET_API const char* adaptivenet_version(void);

/* How to open a model. All zero but `size` is right for most. */
typedef struct adaptivenet_options {
  size_t size;        /* sizeof(adaptivenet_options): tells the library which fields the caller knows */
  const char* engine; /* "executorch" or "onnxruntime"; null: the profile's */
  int threads; /* of an inference; 0: as many as the profile was made with. ExecuTorch has one pool of threads for
                  the process: with 0 it stays as it is, and must have as many; otherwise it is made anew, and no
                  other program may be loaded on ExecuTorch. */
  double
      memory_limit_mb; /* of the artifacts of all that is loaded, in 10^6 bytes; 0: no limit, and nothing is kept beside
                          what serves. With a limit, neighbours on the front are loaded ahead where there is room. */
  const int* loader_cores; /* cores to load on, as the system numbers them; null: as the thread that opens the model */
  size_t loader_core_count;
  int of_another_device; /* not 0: takes also a profile that was made with another engine or number of threads; its
                            latencies say less then */
} adaptivenet_options;

/* What an inference may take. 0 in `memory_mb` and `energy_mj`: any. */
typedef struct adaptivenet_budgets {
  double latency_ms; /* milliseconds */
  double percentile; /* of all inferences that shall keep within it, 50 to 99; 0: 50 */
  double memory_mb;  /* that a subnet's blocks may take, where the profile knows */
  double energy_mj;  /* millijoules, where the profile knows */
} adaptivenet_budgets;

/* Opens the pack in the folder `pack_folder` with the profile in the file `profile_path` (JSON, docs/profile.md), and
 * returns when a subnet serves: the best one for `budgets`, or the next best where that cannot be loaded. When nothing
 * fits the budgets, the fastest serves. `options` may be null. On success `*model` is a new model, otherwise null.
 * This call blocks: it reads files, checks digests and loads programs. */
ADAPTIVENET_API adaptivenet_code adaptivenet_open(const char* pack_folder, const char* profile_path,
                                                  const adaptivenet_budgets* budgets,
                                                  const adaptivenet_options* options, adaptivenet_model** model);

/* The same for a pack in one file (docs/pack.md, "In one file"), which may be a part of another file, as an asset of an
 * Android app is: AAsset_openFileDescriptor64 gives the three numbers. It takes the `length` bytes from `offset` on of
 * the file that `descriptor` is open to read. The descriptor stays the caller's, who may close it when this returns;
 * the file must not change while the model is open. `profile` is the text of the profile, `profile_bytes` long, and
 * need not end with a NUL. */
ADAPTIVENET_API adaptivenet_code adaptivenet_open_archive(int descriptor, int64_t offset, int64_t length,
                                                          const char* profile, size_t profile_bytes,
                                                          const adaptivenet_budgets* budgets,
                                                          const adaptivenet_options* options,
                                                          adaptivenet_model** model);

/* Releases a model and all that it has loaded; null does nothing. Waits for the load that is on. */
ADAPTIVENET_API void adaptivenet_close(adaptivenet_model* model);

/* A tensor as the caller has it: without gaps, batch first. */
typedef struct adaptivenet_tensor {
  const char* dtype; /* numpy's name, as "float32"; the library's */
  size_t bytes;      /* of the whole tensor */
  size_t rank;
  int64_t shape[8]; /* the first `rank` are set; of four dimensions (n, channels, height, width) */
} adaptivenet_tensor;

/* What `adaptivenet_infer` takes and gives. */
ADAPTIVENET_API adaptivenet_code adaptivenet_input(const adaptivenet_model* model, adaptivenet_tensor* tensor);
ADAPTIVENET_API adaptivenet_code adaptivenet_output(const adaptivenet_model* model, adaptivenet_tensor* tensor);

/* A network with several inputs, or one of whole numbers, reads one row of float32 numbers, which holds them one after
 * another (docs/pack.md): that is then what `adaptivenet_input` tells of, and `adaptivenet_infer` takes.
 *
 * How many inputs the row holds; 0: the network reads one tensor, which has no name. */
ADAPTIVENET_API size_t adaptivenet_input_count(const adaptivenet_model* model);
/* The name of one of them, in the order of the row, and what it is at batch size 1: float32, int64, int32 or bool. The
 * name is the model's, and valid as long as that. */
ADAPTIVENET_API adaptivenet_code adaptivenet_named_input(const adaptivenet_model* model, size_t at, const char** name,
                                                         adaptivenet_tensor* tensor);

/* Values of one of them, without gaps. */
typedef struct adaptivenet_values {
  const char* name;
  const char* dtype; /* "float32", "int64", "int32", or "bool", of which each is a byte, 0 for false */
  const void* values;
  size_t count;
} adaptivenet_values;

/* Writes all of them, `count` in any order, to `row`, which has `row_bytes` bytes: as many as the model's input. Fails
 * when one is missing, unknown, given twice, has another number of values or a type that it cannot hold, when a whole
 * number is beyond 16777216, which float32 does not have, and when a float32 is NaN or infinite; what is in the row
 * then is no input. Allocates nothing but the sentence of an error. */
ADAPTIVENET_API adaptivenet_code adaptivenet_write_row(const adaptivenet_model* model, const adaptivenet_values* values,
                                                       size_t count, float* row, size_t row_bytes);

/* The points that may serve: those of the profile's front that are better than all faster ones, fastest first. */
ADAPTIVENET_API size_t adaptivenet_point_count(const adaptivenet_model* model);
/* The latency of a point as profiled, in milliseconds; 0 where there is no such point. */
ADAPTIVENET_API double adaptivenet_point_ms(const adaptivenet_model* model, size_t point);
/* What the whole network took when it was profiled, in milliseconds: what budgets may be shares of. */
ADAPTIVENET_API double adaptivenet_whole_ms(const adaptivenet_model* model);

/* These return at once; what was asked for is loaded meanwhile, and serves from then on. `adaptivenet_status` tells. */

/* Other budgets from now on. */
ADAPTIVENET_API adaptivenet_code adaptivenet_set_budgets(adaptivenet_model* model, const adaptivenet_budgets* budgets);
/* One point, or one subnet by the names of its blocks in order, whatever the budgets, until budgets are set again. */
ADAPTIVENET_API adaptivenet_code adaptivenet_activate(adaptivenet_model* model, size_t point);
ADAPTIVENET_API adaptivenet_code adaptivenet_activate_subnet(adaptivenet_model* model, const char* const* blocks,
                                                             size_t count);

/* Waits until what was asked for serves, or another point in its place. Fails when what was asked for by name cannot be
 * loaded, or when nothing serves at all. */
ADAPTIVENET_API adaptivenet_code adaptivenet_wait(adaptivenet_model* model);

/* How the input lies in memory: n, channels, height, width, or n, height, width, channels. */
typedef enum adaptivenet_order { ADAPTIVENET_NCHW = 0, ADAPTIVENET_NHWC = 1 } adaptivenet_order;

typedef struct adaptivenet_inference {
  double ms;     /* from the input to the output, without waiting for one's turn */
  int64_t point; /* that ran; -1 for a subnet that is none */
} adaptivenet_inference;

/* Runs the subnet that serves. `input` has `input_bytes` bytes and is only read; the output is written to `output`, n,
 * channels, height, width, and has `output_bytes` bytes. Both are the caller's, may lie anywhere, and are not used any
 * more when the call returns. `inference` may be null. Never waits for a load. From the second inference of a subnet
 * on, nothing is allocated but what the engine allocates itself (ONNX Runtime does, for every output). */
ADAPTIVENET_API adaptivenet_code adaptivenet_infer(adaptivenet_model* model, const void* input, size_t input_bytes,
                                                   adaptivenet_order order, void* output, size_t output_bytes,
                                                   adaptivenet_inference* inference);

/* The sensors whose values are believed or not, as bits. */
typedef enum adaptivenet_sensor {
  ADAPTIVENET_FREE_MB = 1,
  ADAPTIVENET_PRESSURE = 2,
  ADAPTIVENET_CELSIUS = 4,
  ADAPTIVENET_HEADROOM = 8,
  ADAPTIVENET_BATTERY = 16,
  ADAPTIVENET_WAITED = 32
} adaptivenet_sensor;

/* What sensors say now. NaN, and -1 for `charging`: says nothing. docs/adapting.md has what is believed of them. The
 * latencies of inferences need not be told. */
typedef struct adaptivenet_signals {
  double free_mb;      /* memory that programs may still take */
  double pressure;     /* percent of the last 10 s in which some program waited for memory */
  double celsius;      /* of the sensor that throttles the processor */
  double throttles_at; /* degrees Celsius */
  double headroom;     /* 0 far from throttling, 1 where it throttles: Android's getThermalHeadroom */
  double battery;      /* percent */
  int charging;        /* 0 or 1 */
  double waited;       /* the share of the time, 0 to 1, for which the thread that infers waited for a processor */
  unsigned states;     /* of adaptivenet_sensor: those whose value is a state, which may stand still while it lasts */
} adaptivenet_signals;

/* Signals that say nothing. */
ADAPTIVENET_API adaptivenet_signals adaptivenet_no_signals(void);
ADAPTIVENET_API adaptivenet_code adaptivenet_observe(adaptivenet_model* model, const adaptivenet_signals* signals);

/* A model at one moment. */
typedef struct adaptivenet_status {
  int64_t point;          /* that serves; -1 for a subnet that is none */
  int64_t loading;        /* the point that is loaded beside it; -1 for none */
  double slowdown;        /* how many times slower than profiled the device is believed to be */
  int64_t resident_bytes; /* of the artifacts of all that is loaded */
  uint64_t switches;      /* how often another subnet came to serve */
  char why[256];          /* why this one serves; cut where it is longer */
  char error[512];        /* what last went wrong with loading one; "" for nothing */
} adaptivenet_status;

/* Not named `adaptivenet_status`, as that is the struct. */
ADAPTIVENET_API adaptivenet_code adaptivenet_get_status(const adaptivenet_model* model, adaptivenet_status* status);

#ifdef __cplusplus
}
#endif

#endif /* ADAPTIVENET_ADAPTIVENET_H_ */
