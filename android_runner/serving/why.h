// A decision of the controller in one line of English, the same as toolkit/serving/why.py writes.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "serving/decision.h"
#include "serving/sensors.h"
#include "serving/speed.h"

namespace adaptivenet {

// Why `to` runs from now on, and ran `here`; `says` is the decision's kind, `cause` what has changed. `tried` will
// be, after a while.
std::string why(Kind says, Kind cause, const std::vector<Point>& points, std::size_t here, std::size_t to,
                const Speed& speed, const Sensors& sensors, const Budgets& budgets, double limit_ms,
                std::optional<std::size_t> tried);

}  // namespace adaptivenet
