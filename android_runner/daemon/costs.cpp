#include "daemon/costs.h"

#include <malloc.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <fstream>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "android/machine.h"
#include "core/error.h"
#include "core/fields.h"
#include "core/quote.h"
#include "evaluate/session.h"
#include "serving/model.h"

namespace adaptivenet {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kRuns = 5;  // after which an engine has allocated all that it will
constexpr double kLongest = 600;

double seconds_between(Clock::time_point begin, Clock::time_point end) {
  return std::chrono::duration<double>(end - begin).count();
}

// The memory that this process has for itself, without files that are mapped, and without what malloc keeps for later.
std::optional<std::int64_t> settled_bytes() {
#if defined(__GLIBC__)
  malloc_trim(0);
#elif defined(M_PURGE)
  mallopt(M_PURGE, 0);
#endif
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("RssAnon:")) return 1024 * std::strtoll(line.c_str() + 8, nullptr, 10);
  }
  return std::nullopt;
}

// A subnet of a pack, to be loaded in this process.
class Subject {
 public:
  Subject(const std::filesystem::path& home, Fields& fields)
      : digest_(fields.digest("pack")),
        pack_(Pack::open(home / "packs" / (digest_ + ".json"), home / "blobs")),
        subnet_(fields.texts("subnet")),
        input_(static_cast<std::size_t>(bytes_of(pack_.graph().cuts().front()))),
        output_(static_cast<std::size_t>(bytes_of(pack_.graph().cuts().back()))) {
    const std::string name = fields.text("engine");
    const int threads = static_cast<int>(fields.whole("threads", 1, 256));
    pin(fields.wholes_or_null("cores"));
    pack_.graph().require_subnet(subnet_);
    engine_ = make_engine(name, threads);
  }

  // Loads and runs the first original block, so that what the engine allocates once is there; then it is released.
  void warm_up() {
    Session session(pack_, engine_);
    const TensorView image{pack_.graph().cuts().front(), input_.data()};
    session.measure({{pack_.graph().oracle().front()}}, kRuns, 0, image, [](std::size_t, std::size_t) { return true; });
  }

  void load() {
    model_.emplace(pack_, engine_, std::vector<PointToServe>(), LoaderOptions());
    model_->activate(subnet_);
    model_->wait();
    for (int run = 0; run < kRuns; ++run) infer();
  }

  void infer() { model_->infer(input_, Layout::kContiguous, output_); }

 private:
  const std::string digest_;
  const Pack pack_;
  const Subnet subnet_;
  std::vector<std::byte> input_, output_;
  std::shared_ptr<Engine> engine_;
  std::optional<Model> model_;
};

Json resident(const std::filesystem::path& home, Fields& fields) {
  Subject subject(home, fields);
  fields.require_no_others();
  subject.warm_up();
  const auto before = settled_bytes();
  subject.load();
  const auto after = settled_bytes();
  return {{"bytes", before && after ? Json(*after - *before) : Json()}};
}

Json text_of(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  return std::getline(file, line) ? Json(line) : Json();
}

// What some files say, again and again: a list for each look, with the seconds at which it was and their first lines.
class Sampler {
 public:
  Sampler(std::vector<std::string> files, double every_s) : files_(std::move(files)), every_(every_s) {}

  // Looks at the beginning, at the end, and every so often while `work` goes on in another thread or sleeps.
  template <typename Work>
  Json during(Work work) {
    Json looks = Json::array();
    std::atomic<bool> done = false;
    look(looks);
    std::thread sampling([&] {
      auto next = Clock::now();
      while (!done) {
        next += std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(every_));
        while (!done && Clock::now() < next) std::this_thread::sleep_for(std::chrono::milliseconds(5));
        if (!done) look(looks);
      }
    });
    struct Joins {
      ~Joins() {
        done = true;
        thread.join();
      }
      std::atomic<bool>& done;
      std::thread& thread;
    };
    {
      const Joins joins{done, sampling};
      work();
    }
    look(looks);
    return looks;
  }

 private:
  void look(Json& looks) const {
    Json row = {seconds_between(begin_, Clock::now())};
    for (const std::string& file : files_) row.push_back(text_of(file));
    looks.push_back(std::move(row));
  }

  const std::vector<std::string> files_;
  const double every_;
  const Clock::time_point begin_ = Clock::now();
};

double seconds_from(Fields& fields, const std::string& name) {
  const double seconds = fields.number(name);
  if (!(seconds > 0 && seconds <= kLongest)) {
    throw ProtocolError("'" + name + "' must be seconds, more than 0 and at most 600");
  }
  return seconds;
}

void sleep_for(double seconds) { std::this_thread::sleep_for(std::chrono::duration<double>(seconds)); }

Json drain(const std::filesystem::path& home, Fields& fields) {
  Subject subject(home, fields);
  Sampler sampler(fields.texts("files"), seconds_from(fields, "every_s"));
  const double idle_s = seconds_from(fields, "idle_s"), run_s = seconds_from(fields, "run_s");
  const double settle_s = seconds_from(fields, "settle_s");
  fields.require_no_others();
  subject.load();
  sleep_for(settle_s);
  Json result;
  std::int64_t inferences = 0;
  result["before"] = sampler.during([&] { sleep_for(idle_s); });
  result["running"] = sampler.during([&] {
    const auto begin = Clock::now();
    for (; seconds_between(begin, Clock::now()) < run_s; ++inferences) subject.infer();
  });
  sleep_for(settle_s);
  result["after"] = sampler.during([&] { sleep_for(idle_s); });
  result["inferences"] = inferences;
  return result;
}

}  // namespace

Json measure_costs(const std::filesystem::path& home, const Json& request) {
  Fields fields(request);
  const std::string verb = fields.text("verb");
  if (verb == "resident") return resident(home, fields);
  if (verb == "drain") return drain(home, fields);
  throw ProtocolError("there is no verb " + quote(verb) + " for a process of its own; there are resident and drain");
}

}  // namespace adaptivenet
