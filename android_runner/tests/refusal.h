// What a call is refused with.
#pragma once

#include <gtest/gtest.h>

#include <string>

namespace adaptivenet {

// The message of the Error that `call` throws; a failure when it throws none, or one of another kind.
template <typename Error, typename Call>
std::string refusal(Call call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  ADD_FAILURE() << "nothing was refused";
  return "";
}

inline ::testing::AssertionResult says(const std::string& message, const std::string& words) {
  if (message.find(words) != std::string::npos) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << '"' << message << "\" does not say \"" << words << '"';
}

}  // namespace adaptivenet
