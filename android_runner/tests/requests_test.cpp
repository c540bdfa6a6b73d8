#include "daemon/requests.h"

#include <gtest/gtest.h>

#include "asking.h"
#include "core/version.h"
#include "daemon/events.h"

namespace adaptivenet {
namespace {

Request read(const Json& request) { return read_request(request.dump()); }

// The error event for `text`.
Json refused(const std::string& text) {
  try {
    read_request(text);
  } catch (const std::exception& error) {
    return error_event(error);
  }
  return nullptr;
}

TEST(Requests, TakesTheEnvelopeAndLeavesTheRestToTheVerb) {
  const Request request = read(request_json(1, "count", {{"to", 3}, {"from", 7}, {"more", nullptr}}));
  EXPECT_EQ(request.kind, Request::Kind::kJob);
  EXPECT_EQ(request.job, job_id(1));
  EXPECT_EQ(request.from, 7u);
  EXPECT_EQ(request.body, request_json(1, "count", {{"to", 3}, {"more", nullptr}}));
}

TEST(Requests, FromIsZeroWhenItIsNotSaid) { EXPECT_EQ(read(request_json(1, "info")).from, 0u); }

TEST(Requests, DigestIsOfAllButFromAndNotOfTheSpelling) {
  const std::string digest = read(request_json(1, "count", {{"to", 3}})).digest;
  EXPECT_EQ(digest.size(), 64u);
  EXPECT_EQ(read(request_json(1, "count", {{"to", 3}, {"from", 2}})).digest, digest);
  EXPECT_EQ(read_request("\t" + request_json(1, "count", {{"to", 3}}).dump(4)).digest, digest);
  EXPECT_NE(read(request_json(1, "count", {{"to", 4}})).digest, digest);
  EXPECT_NE(read(request_json(2, "count", {{"to", 3}})).digest, digest);
}

TEST(Requests, JobsHave16To64HexadecimalDigits) {
  Json request = request_json(1, "info");
  for (const std::string& id : {std::string(16, '0'), std::string(64, 'f'), std::string("0123456789abcdefABCDEF")}) {
    request["job"] = id;
    EXPECT_EQ(read(request).job, id);
  }
  for (const std::string& id : {std::string(), std::string(15, '0'), std::string(65, '0'), std::string(16, 'g'),
                                std::string(15, '0') + "\n", "0000000000000000" + std::string(1, '\0')}) {
    request["job"] = id;
    EXPECT_EQ(refused(request.dump())["kind"], "ProtocolError") << id;
  }
}

TEST(Requests, RefusesWhatIsNoRequest) {
  const Json good = request_json(1, "info");
  std::vector<Json> wrong = {Json::array({good}), Json("stop"), Json(), Json(1), Json::object()};
  for (const char* field : {"version", "verb", "job"}) {
    wrong.push_back(good);
    wrong.back().erase(field);
    for (const Json& value : {Json(), Json(1), Json(true), Json::array(), Json::object()}) {
      wrong.push_back(good);
      wrong.back()[field] = value;
    }
  }
  for (const Json& from : {Json(-1), Json(0.0), Json("0"), Json(), Json(true), Json::array()}) {
    wrong.push_back(good);
    wrong.back()["from"] = from;
  }
  for (const Json& request : wrong) EXPECT_EQ(refused(request.dump())["kind"], "ProtocolError") << request;
}

TEST(Requests, RefusesWhatIsNoJson) {
  const std::string good = request_json(1, "info").dump();
  for (const std::string& text : {std::string(), std::string("{"), good + good, good.substr(1), "\xff" + good,
                                  good + '\0', std::string(1000, '['), std::string("{\"verb\":\"stop\",\"verb\":1}")}) {
    const Json event = refused(text);
    EXPECT_EQ(event["kind"], "ProtocolError") << text;
    EXPECT_NE(event["message"].get<std::string>().find("not JSON"), std::string::npos);
  }
}

TEST(Requests, AnotherVersionIsRefusedBeforeAnythingElseOfItIsRead) {
  for (Json request : {Json{{"version", "9.9.9"}, {"verb", "dream"}}, request_json(1, "info", {{"from", -1}})}) {
    request["version"] = "9.9.9";
    const Json event = refused(request.dump());
    EXPECT_EQ(event["type"], "error");
    EXPECT_EQ(event["kind"], "VersionError");
    EXPECT_EQ(event["version"], RUNNER_VERSION);
    const std::string message = event["message"];
    EXPECT_NE(message.find("9.9.9"), std::string::npos);
    EXPECT_NE(message.find(RUNNER_VERSION), std::string::npos);
  }
}

TEST(Requests, StopIsDoneWhateverElseIsSaid) {
  for (const char* text : {R"({"verb":"stop"})", R"({"verb":"stop","version":"9.9.9","job":7,"from":-1,"why":"so"})"}) {
    const Request request = read_request(text);
    EXPECT_EQ(request.kind, Request::Kind::kStop);
    EXPECT_TRUE(request.job.empty());
  }
}

TEST(Requests, CancelNamesAJob) {
  const Request request = read_request(request_json(7, "cancel").dump());
  EXPECT_EQ(request.kind, Request::Kind::kCancel);
  EXPECT_EQ(request.job, job_id(7));
  Json nameless = request_json(7, "cancel");
  nameless.erase("job");
  EXPECT_EQ(refused(nameless.dump())["kind"], "ProtocolError");
}

TEST(Events, AreOneLineEachWhateverIsInThem) {
  const std::string line =
      event_line("ab", 3, {{"type", "error"}, {"message", "a\nb \xff c"}, {"job", 1}, {"event", 2}});
  EXPECT_EQ(line.find('\n'), line.size() - 1);
  const Json event = parse_json(line);
  EXPECT_EQ(event["job"], "ab");
  EXPECT_EQ(event["event"], 3);
  EXPECT_EQ(event["message"], "a\nb \xef\xbf\xbd c");
  EXPECT_EQ(parse_json(event_line("", 0, {{"type", "result"}}))["job"], nullptr);
}

TEST(Events, ErrorsHaveTheirKind) {
  EXPECT_EQ(error_event(PlanError("p")), (Json{{"type", "error"}, {"kind", "PlanError"}, {"message", "p"}}));
  EXPECT_EQ(error_event(std::out_of_range("o")), (Json{{"type", "error"}, {"kind", "DeviceError"}, {"message", "o"}}));
}

}  // namespace
}  // namespace adaptivenet
