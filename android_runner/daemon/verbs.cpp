#include "daemon/verbs.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>
#include <optional>
#include <span>
#include <tuple>
#include <utility>

#include "android/machine.h"
#include "core/base64.h"
#include "core/error.h"
#include "core/fields.h"
#include "core/quote.h"
#include "core/version.h"
#include "engines/engine.h"
#include "evaluate/images.h"
#include "evaluate/session.h"
#include "serving/model.h"

namespace adaptivenet {
namespace {

double ms_since(Clock::time_point begin) {
  return std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
}

Subnet without(const Subnet& some, const Subnet& others) {
  Subnet left;
  for (const std::string& name : some) {
    if (std::find(others.begin(), others.end(), name) == others.end()) left.push_back(name);
  }
  return left;
}

// All cores but these; none where nothing is left, or where any core may infer.
std::vector<int> other_cores(const std::vector<int>& cores) {
  std::vector<int> others;
  for (int core = 0; !cores.empty() && core < core_count(); ++core) {
    if (std::find(cores.begin(), cores.end(), core) == cores.end()) others.push_back(core);
  }
  return others;
}

constexpr std::int64_t kMany = 1'000'000'000;

Budgets budgets_from(const Json& value) {
  Fields fields(value);
  const Budgets budgets{fields.number("latency_ms"), fields.number("percentile"), fields.number_or_null("memory_mb"),
                        fields.number_or_null("energy_mj")};
  fields.require_no_others();
  return budgets;
}

}  // namespace

struct Runner::State {
  using Key = std::tuple<std::string, std::string, int, std::vector<int>>;  // pack, engine, threads, cores

  std::filesystem::path home;
  std::optional<Key> key;
  std::shared_ptr<Engine> engine;
  std::optional<Session> session;
  std::optional<Model> model;  // none before a subnet was activated

  static Key key_from(Fields& fields) {
    return {fields.digest("pack"), fields.text("engine"), fields.whole("threads", 1, 256),
            fields.wholes_or_null("cores")};
  }

  // Opens what a request asks for. When it is another one than before, everything that was loaded is released first.
  // The threads of an engine stay on the cores on which the thread that made them was running, so other cores need a
  // new engine.
  Session& open(Fields& fields) {
    Key wanted = key_from(fields);
    if (key == wanted) return *session;
    key.reset();
    model.reset();
    session.reset();
    engine.reset();
    const auto& [digest, name, threads, cores] = wanted;
    pin(cores);
    Pack pack = Pack::open(home / "packs" / (digest + ".json"), home / "blobs");
    if (pack.digest() != digest) {
      throw PackError("the pack under the name " + digest + " is " + pack.digest() + "; copy it again");
    }
    engine = make_engine(name, threads);
    session.emplace(std::move(pack), engine);
    key = std::move(wanted);
    return *session;
  }

  Images images(const std::vector<std::string>& digests) const { return {home / "data", digests}; }

  // Serves from now on, with what `options` say besides the cores: the loader takes those that the inferences leave.
  Model& serve(std::vector<PointToServe> front, LoaderOptions options) {
    model.reset();
    options.cores = other_cores(std::get<3>(*key));
    return model.emplace(session->pack(), engine, std::move(front), std::move(options));
  }

  Subnet active() const { return model ? model->status().subnet : Subnet(); }

  Json resident() const {
    const Subnet blocks = active();
    return {{"blocks", blocks}, {"bytes", blocks.empty() ? 0 : model->bytes_of(blocks)}};
  }

  Json info(Fields& fields) const {
    fields.require_no_others();
    Json result = describe_machine();
    result["engines"] = Json::object();
    for (const auto& [name, version] : engines()) result["engines"][name] = version;
    result["version"] = RUNNER_VERSION;
    result["pid"] = getpid();
    result["resident"] = resident();
    return result;
  }

  Json measure(Fields& fields, const Emit& emit, const Cancelled& cancelled) {
    Session& opened = open(fields);
    const auto chains = fields.lists_of_texts("chains");
    const auto rounds = fields.whole("rounds", 1, kMany);
    const auto warmup = fields.whole("warmup", 0, kMany);
    const Images sample = images({fields.digest("data")});
    fields.require_no_others();
    const std::vector<int>& cores = std::get<3>(*key);
    const Json before = machine_state(cores);
    const Measured measured =
        opened.measure(chains, rounds, warmup, sample.image(0), [&](std::size_t done, std::size_t total) {
          emit({{"type", "progress"}, {"done", done}, {"total", total}});
          return !cancelled;
        });
    return {
        {"blocks_ms", measured.ms}, {"waited", measured.waited}, {"before", before}, {"after", machine_state(cores)}};
  }

  Json evaluate(Fields& fields, const Emit& emit, const Cancelled& cancelled) {
    const auto begin = Clock::now();
    Session& opened = open(fields);
    const DataName name = fields.digests("data");
    const Images data = images(name);
    Plan plan = Plan::from_json(opened.pack(), fields.any("plan"));
    fields.require_no_others();
    Session::Evaluation evaluation(opened, std::move(plan), name, data.size());
    for (std::size_t index = 0; index < data.size() && !cancelled; ++index) {
      const auto sums = evaluation(data.image(index), data.label(index));
      Json by_metric = Json::object();
      for (std::size_t metric = 0; metric < sums.size(); ++metric) {
        by_metric[evaluation.plan().metrics[metric]] = sums[metric];
      }
      emit({{"type", "scores"}, {"image", index}, {"sums", std::move(by_metric)}});
    }
    if (!cancelled) evaluation.finish();
    return {{"images", data.size()}, {"block_runs", evaluation.block_runs()}, {"seconds", ms_since(begin) / 1e3}};
  }

  // No session is opened for this: when another one was opened meanwhile, nothing is kept any more.
  Json forget(Fields& fields) {
    const Key wanted = key_from(fields);
    fields.require_no_others();
    if (key == wanted) session->forget();
    return Json::object();
  }

  Json activate(Fields& fields) {
    const auto begin = Clock::now();
    open(fields);
    const Subnet subnet = fields.texts("subnet");
    fields.require_no_others();
    if (!model) serve({}, {});
    const Subnet before = active();
    model->activate(subnet);
    model->wait();
    const Subnet loaded = without(subnet, before), released = without(before, subnet);
    return {{"loaded", loaded},
            {"released", released},
            {"bytes_in", model->bytes_of(loaded)},
            {"bytes_out", model->bytes_of(released)},
            {"ms", ms_since(begin)},
            {"resident", resident()}};
  }

  Json infer(Fields& fields, const Cancelled& cancelled) {
    Session& opened = open(fields);
    const Subnet subnet = fields.texts("subnet");
    const Images data = images({fields.digest("data")});
    fields.require_no_others();
    if (!model || active() != subnet) {
      throw DeviceError(
          "the subnet to infer with is not the active one; activate it (another host may have activated "
          "its own)");
    }
    Tensor output{opened.pack().graph().cuts().back(), std::vector<std::byte>(model->output_bytes())};
    Json outputs = Json::array();
    Json times = Json::array();
    for (std::size_t index = 0; index < data.size() && !cancelled; ++index) {
      times.push_back(infer_one(data.image(index), output.data).ms);
      outputs.push_back(
          {{"dtype", name_of(output.type.dtype)}, {"shape", output.type.shape}, {"base64", base64(output.data)}});
    }
    return {{"outputs", outputs}, {"ms", times}};
  }

  Ran infer_one(const TensorView& image, std::span<std::byte> output) {
    const TensorType& wanted = model->pack().graph().cuts().front();
    if (image.type != wanted) {
      throw DataError("an image is " + to_string(image.type) + "; the pack takes " + to_string(wanted));
    }
    return model->infer({image.data, model->input_bytes()}, Layout::kContiguous, output);
  }

  Json adapt(Fields& fields, const Emit& emit, const Cancelled& cancelled) {
    Session& opened = open(fields);
    std::vector<PointToServe> points;
    const Json& front = fields.any("front");
    if (!front.is_array()) throw ProtocolError("the request's 'front' must be a list");
    for (const Json& entry : front) {
      Fields point(entry);
      points.push_back(
          {point.texts("subnet"),
           {point.number("latency_ms"), point.number_or_null("resident_mb"), point.number_or_null("energy_mj")}});
      opened.pack().graph().require_subnet(points.back().subnet);
      point.require_no_others();
    }
    LoaderOptions options;
    options.budgets = budgets_from(fields.any("budgets"));
    if (options.budgets->memory_mb) {
      options.limit_bytes = static_cast<std::int64_t>(std::ceil(std::min(*options.budgets->memory_mb, 1e12) * 1e6));
    }
    const auto inferences = fields.whole("inferences", 1, kMany);
    const Images data = images(fields.digests("data"));
    fields.require_no_others();
    std::vector<std::int64_t> ran(points.size());
    serve(std::move(points), std::move(options)).wait();
    std::vector<std::byte> output(model->output_bytes());
    std::size_t before = kNoPoint;
    std::int64_t switches = 0;
    std::uint64_t told = 0;
    const auto begin = Clock::now();
    for (std::int64_t index = 0; index < inferences && !cancelled; ++index) {
      if (const ServingStatus status = model->status(); status.decisions != told) {
        told = status.decisions;
        emit({{"type", "decision"},
              {"point", status.decision.point},
              {"slowdown", status.decision.slowdown},
              {"kind", name_of(status.decision.kind)},
              {"why", status.decision.why},
              {"at_s", ms_since(begin) / 1e3}});
      }
      const auto [point, ms] = infer_one(data.image(index % data.size()), output);
      const bool switched = before != kNoPoint && point != before;
      before = point;
      ++ran[point];
      switches += switched;
      emit({{"type", "inference"},
            {"index", index},
            {"point", point},
            {"ms", ms},
            {"switched", switched},
            {"at_s", ms_since(begin) / 1e3}});
    }
    return {{"points", ran}, {"switches", switches}};
  }

  Json handle(const Json& request, const Emit& emit, const Cancelled& cancelled) {
    Fields fields(request);
    const std::string verb = fields.text("verb");
    if (verb == "info") return info(fields);
    if (verb == "measure") return measure(fields, emit, cancelled);
    if (verb == "evaluate") return evaluate(fields, emit, cancelled);
    if (verb == "forget") return forget(fields);
    if (verb == "activate") return activate(fields);
    if (verb == "infer") return infer(fields, cancelled);
    if (verb == "adapt") return adapt(fields, emit, cancelled);
    throw ProtocolError("there is no verb " + quote(verb) +
                        "; there are info, measure, evaluate, forget, activate, infer, adapt, cancel and stop");
  }
};

Runner::Runner(std::filesystem::path home) : state_(std::make_unique<State>()) { state_->home = std::move(home); }

Runner::~Runner() = default;

Json Runner::handle(const Json& request, const Emit& emit, const Cancelled& cancelled) {
  Json result = state_->handle(request, emit, cancelled);
  if (cancelled) throw DeviceError("the job was cancelled before its end");
  return result;
}

}  // namespace adaptivenet
