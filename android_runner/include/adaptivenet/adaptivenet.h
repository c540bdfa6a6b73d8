/* AdaptiveNet's serving core for C; include/adaptivenet/model.h is its face for C++.
 *
 * A model is a pack and a profile (docs/serving.md). The profile has a front: points, each a subnet of the pack with
 * its latency on a kind of device and its quality. One subnet serves; others are loaded beside it by a thread of the
 * model's own, and the swap is between two inferences. What serves is chosen under budgets, from how long inferences
 * take and from what the caller tells of the device (docs/adapting.md), or by name.
 *
 *   adaptivenet_model* model = NULL;
 *   adaptivenet_budgets budgets = {12.5, 0, 0, 0};
 *   if (adaptivenet_open("pack", "profile.json", &budgets, NULL, &model) != ADAPTIVENET_OK) {
 *     puts(adaptivenet_last_error());
 *     return 1;
 *   }
 *   adaptivenet_infer(model, in, in_bytes, ADAPTIVENET_NHWC, out, out_bytes, ADAPTIVENET_NCHW, NULL);
 *   adaptivenet_close(model);
 *
 * Threads: every function may be called from any thread at any time, but for `adaptivenet_close`, which must be the
 * last call of its model and come after all others have returned. Several threads that infer take turns. None may be
 * called from a signal handler. Functions return at once unless they say that they block.
 *
 * Memory: strings and arrays that are given are read before a call returns, and stay the caller's. Strings that are
 * returned say whose they are: the model's are valid until it is closed, the library's as long as the process lives.
 * Only the model itself must be released, by `adaptivenet_close`.
 *
 * Errors: functions return a code; `adaptivenet_last_error` has a sentence. Beside the codes that a function names, any
 * may return ADAPTIVENET_BAD_ARGUMENT for a null pointer where null is not allowed, and ADAPTIVENET_FAILED where there
 * is no memory left. Unless a function says otherwise, what it would have written is not written when it fails, and the
 * model serves on as before. No exception leaves this library.
 *
 * The process: no signal handler is installed, nothing is printed but what the engines print, and ExecuTorch's pool of
 * threads, which the process has one of, is changed only where a number of threads is asked for. Several models may be
 * open at a time.
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
  ADAPTIVENET_BAD_ARGUMENT = 1, /* a null pointer; a size, a number or a name that does not fit */
  ADAPTIVENET_BAD_PACK = 2,     /* the pack cannot be read, is damaged, or has no programs for the engine */
  ADAPTIVENET_BAD_PROFILE = 3,  /* the profile cannot be read, is damaged, or is of another pack, engine or number of
                                   threads */
  ADAPTIVENET_BAD_BUDGET = 4,   /* a budget is no positive number, or a percentile not from 50 to 99 */
  ADAPTIVENET_FAILED = 5        /* the engine or the machine: loading or inferring failed, or nothing serves */
} adaptivenet_code;

/**
 * Tells what went wrong last in the calling thread.
 *
 * @returns One line of English: what failed, with what, what to do; "" before the first error, and where there was no
 *     memory for the line. It belongs to the thread, and is valid until the thread's next call that fails, or its end.
 */
ADAPTIVENET_API const char* adaptivenet_last_error(void);

/**
 * @returns The version of this library, as "0.1.0+f3a83f0b17d2.9c01d2": of the package, and digests of what it was
 *     built from. The library's.
 */
ADAPTIVENET_API const char* adaptivenet_version(void);

/* How to open a model. All zero but `size` is right for most. */
typedef struct adaptivenet_options {
  size_t size; /* sizeof(adaptivenet_options): tells the library which fields the caller knows */
  const char*
      engine;  /* "executorch" or "onnxruntime", as far as the library was built with them; null: the profile's */
  int threads; /* of an inference, 1 to 256; 0: as many as the profile was made with. ExecuTorch has one pool of threads
                  for the process. With 0 it stays as it is, and must have as many as the profile was made with. With a
                  number it is made anew while the model is opened: at that time nothing else in the process may load or
                  run a program on ExecuTorch. */
  double memory_limit_mb;   /* of the artifacts of all that is loaded, in 10^6 bytes; 0: no limit, and nothing is kept
                               beside what serves, but while a switch is prepared. With a limit, a subnet for which there
                               is no room beside the one that serves is not switched to, and neighbours on the front are
                               loaded ahead where there is room. */
  const int* loader_cores;  /* cores to load on, numbered from 0 as the system numbers them; null: those of the thread
                               that opens the model, as for cores that cannot be had, and where loading starts the
                               threads that infer (ONNX Runtime with more than one) */
  size_t loader_core_count; /* how many those are; 0 where there are none */
  int of_another_device;    /* not 0: takes also a profile that was made with another engine or number of threads; its
                               latencies say less then */
} adaptivenet_options;

/* What an inference may take. */
typedef struct adaptivenet_budgets {
  double latency_ms; /* milliseconds, more than 0: from the caller's input to the caller's output */
  double percentile; /* of all inferences that shall keep within `latency_ms`, 50 to 99; 0: 50, the median */
  double memory_mb;  /* that a subnet's blocks may take as profiled, in 10^6 bytes; 0: any. A point of which the profile
                        does not know it keeps within it */
  double energy_mj;  /* millijoules that an inference may take as profiled, in the same way; 0: any */
} adaptivenet_budgets;

/**
 * Opens a pack with a profile, and returns when a subnet serves: the best one for the budgets, or the next best where
 * that cannot be loaded. When nothing fits the budgets, the fastest serves, and the status says so. Blocks: it reads
 * files, checks digests and loads programs.
 *
 * @param[in] pack_folder Path of the pack's folder. Its files must not change while the model is open.
 * @param[in] profile_path Path of a profile of that pack (JSON, docs/profile.md), which is read once.
 * @param[in] budgets What an inference may take.
 * @param[in] options How to open it; may be null.
 * @param[out] model The new model, to be closed by `adaptivenet_close`; null when this fails.
 *
 * @returns ADAPTIVENET_BAD_PACK, ADAPTIVENET_BAD_PROFILE, ADAPTIVENET_BAD_BUDGET;
 *     ADAPTIVENET_BAD_ARGUMENT also for options that cannot be, as an engine that the library does not have;
 *     ADAPTIVENET_FAILED when no subnet can be loaded, or the engine cannot have its threads.
 */
ADAPTIVENET_API adaptivenet_code adaptivenet_open(const char* pack_folder, const char* profile_path,
                                                  const adaptivenet_budgets* budgets,
                                                  const adaptivenet_options* options, adaptivenet_model** model);

/**
 * As `adaptivenet_open`, for a pack in one file (docs/pack.md, "In one file"), which may be a part of another file, as
 * an asset of an Android app is: AAsset_openFileDescriptor64 gives the three numbers.
 *
 * @param[in] descriptor A file that is open to read. It stays the caller's, who may close it when this returns; the
 * file must not change while the model is open.
 * @param[in] offset Where the pack begins in the file, in bytes; at any alignment.
 * @param[in] length How many bytes it has.
 * @param[in] profile The text of the profile (JSON); it need not end with a NUL.
 * @param[in] profile_bytes How many bytes that has.
 * @param[in] budgets What an inference may take.
 * @param[in] options How to open it; may be null.
 * @param[out] model The new model, to be closed by `adaptivenet_close`; null when this fails.
 *
 * @returns What `adaptivenet_open` returns; ADAPTIVENET_BAD_PACK also for bytes that the file does not have.
 */
ADAPTIVENET_API adaptivenet_code adaptivenet_open_archive(int descriptor, int64_t offset, int64_t length,
                                                          const char* profile, size_t profile_bytes,
                                                          const adaptivenet_budgets* budgets,
                                                          const adaptivenet_options* options,
                                                          adaptivenet_model** model);

/**
 * Releases a model, all that it has loaded, and the strings that are the model's. Blocks until the load that is on has
 * ended. No other call of this model may be under way, nor come afterwards.
 *
 * @param[in] model What to release; null does nothing.
 */
ADAPTIVENET_API void adaptivenet_close(adaptivenet_model* model);

/* A tensor as the caller has it: without gaps, batch first. */
typedef struct adaptivenet_tensor {
  const char* dtype; /* numpy's name, as "float32"; the library's */
  size_t bytes;      /* of the whole tensor */
  size_t rank;       /* how many dimensions it has, at most 8 */
  int64_t shape[8];  /* the first `rank` are set, the others 0; of four dimensions (n, channels, height, width), in
                        whichever order they lie in memory */
} adaptivenet_tensor;

/**
 * Tells what `adaptivenet_infer` takes.
 *
 * @param[in] model The model.
 * @param[out] tensor Shape, type and size of the input, the same for all subnets.
 *
 * @returns ADAPTIVENET_BAD_ARGUMENT also where it has more than 8 dimensions.
 */
ADAPTIVENET_API adaptivenet_code adaptivenet_input(const adaptivenet_model* model, adaptivenet_tensor* tensor);

/**
 * Tells what `adaptivenet_infer` gives.
 *
 * @param[in] model The model.
 * @param[out] tensor Shape, type and size of the output, the same for all subnets.
 *
 * @returns ADAPTIVENET_BAD_ARGUMENT also where it has more than 8 dimensions.
 */
ADAPTIVENET_API adaptivenet_code adaptivenet_output(const adaptivenet_model* model, adaptivenet_tensor* tensor);

/**
 * Tells how many inputs the network has, where it has several, or one of whole numbers. Such a network reads one row of
 * float32 numbers, which holds them one after another (docs/pack.md): that is then what `adaptivenet_input` tells of,
 * and `adaptivenet_infer` takes. `adaptivenet_write_row` makes it.
 *
 * @param[in] model The model; null gives 0.
 *
 * @returns How many inputs the row holds; 0: the network reads one tensor, which has no name.
 */
ADAPTIVENET_API size_t adaptivenet_input_count(const adaptivenet_model* model);

/**
 * Tells the name and the form of one input of a row.
 *
 * @param[in] model The model.
 * @param[in] at Which one, in the order of the row, less than `adaptivenet_input_count`.
 * @param[out] name Its name; the model's.
 * @param[out] tensor What it is at batch size 1: float32, int64, int32 or bool; `bytes` are those of that type, not
 *     those that it takes in the row.
 *
 * @returns ADAPTIVENET_BAD_ARGUMENT also where there is no such input.
 */
ADAPTIVENET_API adaptivenet_code adaptivenet_named_input(const adaptivenet_model* model, size_t at, const char** name,
                                                         adaptivenet_tensor* tensor);

/* Values of one input of a row, row-major, without gaps. */
typedef struct adaptivenet_values {
  const char* name;   /* of the input, as `adaptivenet_named_input` tells it */
  const char* dtype;  /* of the values: "float32", "int64", "int32", or "bool", of which each is a byte, 0 for false */
  const void* values; /* may lie anywhere, aligned or not */
  size_t count;       /* how many values, not bytes: the product of the input's shape */
} adaptivenet_values;

/**
 * Writes all inputs of a network to the row that `adaptivenet_infer` takes. Allocates nothing but the sentence of an
 * error.
 *
 * @param[in] model The model.
 * @param[in] values One for each input, in any order.
 * @param[in] count How many of them: `adaptivenet_input_count`.
 * @param[out] row What is written to, the caller's. When this fails, what is in it is no input.
 * @param[in] row_bytes The size of `row`: `bytes` of `adaptivenet_input`.
 *
 * @returns ADAPTIVENET_BAD_ARGUMENT also when an input is missing, unknown, given twice, has another number of values
 * or a type that it cannot hold, when a whole number is beyond 16777216, which float32 does not have, when a float32 is
 *     NaN or infinite, and where the network has no row.
 */
ADAPTIVENET_API adaptivenet_code adaptivenet_write_row(const adaptivenet_model* model, const adaptivenet_values* values,
                                                       size_t count, float* row, size_t row_bytes);

/**
 * Tells how many points may serve: those of the profile's front that are better than all faster ones, fastest first.
 *
 * @param[in] model The model; null gives 0.
 *
 * @returns How many; points are numbered from 0.
 */
ADAPTIVENET_API size_t adaptivenet_point_count(const adaptivenet_model* model);

/**
 * @param[in] model The model; null gives 0.
 * @param[in] point Which point.
 *
 * @returns The latency of the point when it was profiled, in milliseconds; 0 where there is no such point.
 */
ADAPTIVENET_API double adaptivenet_point_ms(const adaptivenet_model* model, size_t point);

/**
 * @param[in] model The model; null gives 0.
 *
 * @returns What the whole network took when it was profiled, in milliseconds, for budgets that shall be a share of it.
 */
ADAPTIVENET_API double adaptivenet_whole_ms(const adaptivenet_model* model);

/* These three return at once; what was asked for is loaded meanwhile, and serves from then on. `adaptivenet_wait` waits
 * for that, `adaptivenet_get_status` tells of it. What was asked for last counts. */

/**
 * Sets other budgets from now on: the controller chooses, also after `adaptivenet_activate`. The limit of what is
 * loaded stays that of the options.
 *
 * @param[in] model The model.
 * @param[in] budgets All of them; none stays as it was.
 *
 * @returns ADAPTIVENET_BAD_BUDGET.
 */
ADAPTIVENET_API adaptivenet_code adaptivenet_set_budgets(adaptivenet_model* model, const adaptivenet_budgets* budgets);

/**
 * Lets one point serve, whatever the budgets, until budgets are set again.
 *
 * @param[in] model The model.
 * @param[in] point Which one, less than `adaptivenet_point_count`.
 *
 * @returns ADAPTIVENET_BAD_ARGUMENT also where there is no such point.
 */
ADAPTIVENET_API adaptivenet_code adaptivenet_activate(adaptivenet_model* model, size_t point);

/**
 * The same for any subnet of the pack, on the front or not.
 *
 * @param[in] model The model.
 * @param[in] blocks The names of its blocks, from the first to the last.
 * @param[in] count How many.
 *
 * @returns ADAPTIVENET_BAD_ARGUMENT also for blocks that the pack does not have, and that are no subnet.
 */
ADAPTIVENET_API adaptivenet_code adaptivenet_activate_subnet(adaptivenet_model* model, const char* const* blocks,
                                                             size_t count);

/**
 * Blocks until what was asked for serves, or another point in its place where it cannot be loaded.
 *
 * @param[in] model The model.
 *
 * @returns When what was asked for by `adaptivenet_activate` cannot be loaded, or nothing serves at all:
 *     ADAPTIVENET_BAD_PACK for a file that is missing or damaged, ADAPTIVENET_FAILED for all else. Something may serve
 *     nevertheless: what did before.
 */
ADAPTIVENET_API adaptivenet_code adaptivenet_wait(adaptivenet_model* model);

/* In which order four dimensions lie in memory: n, channels, height, width, or n, height, width, channels, as the
 * pixels of a picture do. Tensors of other than four dimensions have one order, and either value will do. */
typedef enum adaptivenet_order { ADAPTIVENET_NCHW = 0, ADAPTIVENET_NHWC = 1 } adaptivenet_order;

typedef struct adaptivenet_inference {
  double ms;     /* milliseconds from the caller's input to the caller's output, without waiting for one's turn */
  int64_t point; /* that ran; -1 for a subnet that is no point */
} adaptivenet_inference;

/**
 * Runs the subnet that serves. Never waits for a load; waits for the inferences of other threads. From the second
 * inference of a subnet on, nothing is allocated but what the engine allocates itself (ONNX Runtime does, for every
 * output).
 *
 * @param[in] model The model.
 * @param[in] input The input, of the type that `adaptivenet_input` tells. It may lie anywhere, aligned or not, is only
 *     read, and is not used any more when the call returns.
 * @param[in] input_bytes Its size: `bytes` of `adaptivenet_input`.
 * @param[in] input_order The order in which it lies in memory. An order that the subnet does not want costs a copy,
 *     which counts in the time.
 * @param[out] output What the output is written to, of the type that `adaptivenet_output` tells. It may lie anywhere
 * but over the input, and is not used any more when the call returns. When this fails, what is in it is no output.
 * @param[in] output_bytes Its size: `bytes` of `adaptivenet_output`.
 * @param[in] output_order The order in which the output is written.
 * @param[out] inference What ran, and how long; may be null.
 *
 * @returns ADAPTIVENET_BAD_ARGUMENT also for sizes that are not the model's and for orders that are none;
 *     ADAPTIVENET_FAILED when the engine fails.
 */
ADAPTIVENET_API adaptivenet_code adaptivenet_infer(adaptivenet_model* model, const void* input, size_t input_bytes,
                                                   adaptivenet_order input_order, void* output, size_t output_bytes,
                                                   adaptivenet_order output_order, adaptivenet_inference* inference);

/* The sensors whose values are believed or not, as bits. */
typedef enum adaptivenet_sensor {
  ADAPTIVENET_FREE_MB = 1,
  ADAPTIVENET_PRESSURE = 2,
  ADAPTIVENET_CELSIUS = 4,
  ADAPTIVENET_HEADROOM = 8,
  ADAPTIVENET_BATTERY = 16,
  ADAPTIVENET_WAITED = 32
} adaptivenet_sensor;

/* What sensors say now; NaN, and -1 for `charging`, where one says nothing. Values that cannot be are ignored, and
 * those of a sensor that is silent for 30 s, or has not moved for 120 s (a battery 10 and 30 minutes), no longer count:
 * docs/adapting.md. The latencies of inferences need not be told. */
typedef struct adaptivenet_signals {
  double free_mb;      /* memory that programs may still take, in 10^6 bytes */
  double pressure;     /* percent of the last 10 s in which some program waited for memory */
  double celsius;      /* degrees Celsius of the sensor that throttles the processor */
  double throttles_at; /* degrees Celsius from which on it throttles; without, `celsius` says nothing */
  double headroom;     /* 0 far from throttling, 1 where it throttles: Android's getThermalHeadroom */
  double battery;      /* percent of its charge */
  int charging;        /* 1 while the device is charged, 0 while it is not */
  double waited;       /* the share of the time, 0 to 1, for which the thread that infers waited for a processor */
  unsigned states;     /* bits of adaptivenet_sensor: those whose value is a state, as Android's thermal status, which
                          counts at once and may stand still while it lasts */
} adaptivenet_signals;

/**
 * @returns Signals that say nothing, to fill in what is known.
 */
ADAPTIVENET_API adaptivenet_signals adaptivenet_no_signals(void);

/**
 * Tells the controller what sensors say now. To be called at any rate, such as every few seconds; what is missing says
 * nothing new. Returns at once; the model's thread decides.
 *
 * @param[in] model The model.
 * @param[in] signals What they say.
 *
 * @returns ADAPTIVENET_OK but for null pointers.
 */
ADAPTIVENET_API adaptivenet_code adaptivenet_observe(adaptivenet_model* model, const adaptivenet_signals* signals);

/* A model at one moment. */
typedef struct adaptivenet_status {
  int64_t point;          /* that serves from the next inference on; -1 for a subnet that is no point */
  int64_t loading;        /* the point that is loaded beside it; -1 for none, and for a subnet that is no point */
  double slowdown;        /* how many times slower than profiled the device is believed to be; 1 at first */
  int64_t resident_bytes; /* of the artifacts of all that is loaded */
  uint64_t switches;      /* how often another subnet came to serve after the first */
  char why[256];          /* why this one serves, in English; cut where it is longer, always with a NUL */
  char error[512];        /* what last went wrong with loading one; "" for nothing */
} adaptivenet_status;

/**
 * Tells what serves now, and why. (Not named `adaptivenet_status`, as that is the struct.) Allocates, so it is not for
 * every inference of a program that must not.
 *
 * @param[in] model The model.
 * @param[out] status The model at this moment; the caller's, with all of its strings.
 *
 * @returns ADAPTIVENET_OK but for null pointers.
 */
ADAPTIVENET_API adaptivenet_code adaptivenet_get_status(const adaptivenet_model* model, adaptivenet_status* status);

#ifdef __cplusplus
}
#endif

#endif /* ADAPTIVENET_ADAPTIVENET_H_ */
