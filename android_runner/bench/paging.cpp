// What it costs to serve another subnet: `runner-paging PACK ENGINE MEASURE COUNT`, for benchmarks/paging.py. Subnets
// come on stdin, a line each, their blocks joined by commas; they serve in turn, the first again after the last. Prints
// one json object.
//
//   switches  by turns, a model that has nothing loaded is given a subnet, and one that serves the subnet before it is
//             given the same one: the milliseconds of both, and the share of its bytes that the second had to load
//   gaps      a thread infers all the time: the longest time from the end of one inference to the end of the next, in
//             every switch and in as long a time after it, in milliseconds
//   resident  COUNT switches, then the first subnet serves: the memory that was taken for it, in bytes
//   growth    the bytes by which COUNT switches have grown the process; as many as there are subnets, twice, come
//   before
#include <malloc.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <fstream>
#include <iostream>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "core/error.h"
#include "core/json.h"
#include "serving/model.h"

namespace {

using namespace adaptivenet;
using Clock = std::chrono::steady_clock;

constexpr int kWarmUp = 100;  // switches

double ms_between(Clock::time_point begin, Clock::time_point end) {
  return std::chrono::duration<double, std::milli>(end - begin).count();
}

// Of the process, not counting files that are mapped.
std::int64_t memory() {
  malloc_trim(0);
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("RssAnon:")) return 1024 * std::stoll(line.substr(8));
  }
  throw DeviceError("/proc/self/status does not tell RssAnon");
}

class Bench {
 public:
  Bench(Pack pack, const std::string& engine, std::vector<Subnet> subnets)
      : pack_(std::move(pack)), engine_(make_engine(engine, 1)), subnets_(std::move(subnets)) {
    input_.resize(static_cast<std::size_t>(bytes_of(pack_.graph().cuts().front())));
    output_.resize(static_cast<std::size_t>(bytes_of(pack_.graph().cuts().back())));
  }

  Json switches(int count) {
    Json result = {{"full_ms", Json::array()}, {"switch_ms", Json::array()}, {"share", Json::array()}};
    for (int at = 0; at < count; ++at) {
      const Subnet &before = subnet(at), &wanted = subnet(at + 1);
      const auto from_nothing = [&] {
        Model model = fresh();
        return serve(model, wanted);
      };
      const auto from_before = [&] {
        Model model = fresh();
        serve(model, before);
        return serve(model, wanted);
      };
      double full = at % 2 == 0 ? from_nothing() : 0;
      const double switched = from_before();
      if (at % 2 != 0) full = from_nothing();
      std::int64_t changed = 0;
      const Model model = fresh();
      for (const std::string& block : wanted) {
        if (std::find(before.begin(), before.end(), block) == before.end()) changed += model.bytes_of({block});
      }
      result["full_ms"].push_back(full);
      result["switch_ms"].push_back(switched);
      result["share"].push_back(static_cast<double>(changed) / static_cast<double>(model.bytes_of(wanted)));
    }
    return result;
  }

  Json gaps(int count) {
    Model model = fresh();
    serve(model, subnet(0));
    std::vector<Clock::time_point> ends;
    ends.reserve(std::size_t{1} << 22);
    std::atomic<bool> done = false;
    std::thread infers([&] {
      while (!done && ends.size() < ends.capacity()) {
        model.infer(input_, Layout::kContiguous, output_);
        ends.push_back(Clock::now());
      }
    });
    std::vector<Clock::time_point> marks;  // a switch begins, it ends, the ordinary time ends; and so on
    for (int at = 1; at <= count; ++at) {
      const auto begin = Clock::now();
      serve(model, subnet(at));
      const auto end = Clock::now();
      std::this_thread::sleep_for(
          std::chrono::milliseconds(20));  // what ran before is released, and the caches are warm
      const auto ordinary = Clock::now();
      std::this_thread::sleep_for(end - begin);
      marks.insert(marks.end(), {begin, end, ordinary, Clock::now()});
    }
    done = true;
    infers.join();
    const auto longest = [&](Clock::time_point begin, Clock::time_point end) {
      double found = 0;
      auto next = std::upper_bound(ends.begin(), ends.end(), begin);
      for (; next != ends.end() && next != ends.begin(); ++next) {
        found = std::max(found, ms_between(*(next - 1), *next));
        if (*next > end) break;
      }
      return found;
    };
    Json result = {{"switch_ms", Json::array()}, {"ordinary_ms", Json::array()}, {"inferences", ends.size()}};
    for (std::size_t at = 0; at < marks.size(); at += 4) {
      result["switch_ms"].push_back(longest(marks[at], marks[at + 1]));
      result["ordinary_ms"].push_back(longest(marks[at + 2], marks[at + 3]));
    }
    return result;
  }

  Json resident(int count) {
    const std::int64_t before = memory();
    Model model = fresh();
    turn(model, count);
    serve(model, subnet(0));
    for (int at = 0; at < 5; ++at) infer(model);
    do {  // blocks of several switches are loaded once more together, and count twice meanwhile
      std::this_thread::sleep_for(std::chrono::seconds(1));
    } while (model.status().resident_bytes != model.bytes_of(subnet(0)));
    infer(model);
    return {{"bytes", memory() - before}};
  }

  Json growth(int count) {
    Model model = fresh();
    const int once = static_cast<int>(subnets_.size());
    turn(model, kWarmUp / once * once);
    const std::int64_t before = memory();
    turn(model, count / once * once);
    return {{"bytes", memory() - before}, {"switches", count / once * once}};
  }

 private:
  const Subnet& subnet(int at) const { return subnets_[static_cast<std::size_t>(at) % subnets_.size()]; }

  Model fresh() { return Model(pack_, engine_, {}, {}); }

  static double serve(Model& model, const Subnet& subnet) {
    const auto begin = Clock::now();
    model.activate(subnet);
    model.wait();
    return ms_between(begin, Clock::now());
  }

  void infer(Model& model) { model.infer(input_, Layout::kContiguous, output_); }

  void turn(Model& model, int count) {
    for (int at = 1; at <= count; ++at) {
      serve(model, subnet(at));
      infer(model);
    }
  }

  Pack pack_;
  std::shared_ptr<Engine> engine_;
  std::vector<Subnet> subnets_;
  std::vector<std::byte> input_, output_;
};

std::vector<Subnet> subnets_from(std::istream& lines) {
  std::vector<Subnet> subnets;
  for (std::string line; std::getline(lines, line);) {
    std::istringstream names(line);
    subnets.emplace_back();
    for (std::string name; std::getline(names, name, ',');) subnets.back().push_back(name);
  }
  if (subnets.empty()) throw DataError("there is no subnet on stdin");
  return subnets;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) {
    std::cerr << "usage: runner-paging PACK ENGINE switches|gaps|resident|growth COUNT\n";
    return 2;
  }
  try {
    const std::filesystem::path folder = argv[1];
    Bench bench(Pack::open(folder / "manifest.json", folder / "blobs"), argv[2], subnets_from(std::cin));
    const std::string measure = argv[3];
    const int count = std::stoi(argv[4]);
    Json found;
    if (measure == "switches") found = bench.switches(count);
    if (measure == "gaps") found = bench.gaps(count);
    if (measure == "resident") found = bench.resident(count);
    if (measure == "growth") found = bench.growth(count);
    std::cout << found.dump() << "\n";
  } catch (const std::exception& error) {
    std::cerr << "runner-paging: " << error.what() << "\n";
    return 1;
  }
  return 0;
}
