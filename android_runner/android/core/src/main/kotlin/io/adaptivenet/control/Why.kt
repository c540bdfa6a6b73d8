package io.adaptivenet.control

import io.adaptivenet.Budgets
import io.adaptivenet.Cause
import io.adaptivenet.Point
import java.math.BigDecimal
import java.math.RoundingMode

/**
 * A number with so many digits behind its point, as C's `printf` writes it: from the exact value, a half to the even
 * digit. `String.format` rounds the shortest decimal instead, which differs in a digit now and then.
 */
private fun number(value: Double, digits: Int): String =
    BigDecimal(value).setScale(digits, RoundingMode.HALF_EVEN).toPlainString()

private fun inWords(slowdown: Double): String = when {
    slowdown == 1.0 -> "as fast as profiled"
    slowdown < 1 -> "${number(1 / slowdown, 2)} times faster than profiled"
    else -> "${number(slowdown, 2)} times slower than profiled"
}

private fun because(cause: Cause, speed: Speed, sensors: Sensors, budgets: Budgets, points: Int) = when (cause) {
    Cause.NOISE -> "percentile ${number(budgets.percentile, 0)} is ${number(speed.tail, 2)} times the median, " +
        inWords(speed.slowdown)
    Cause.LOAD -> "other programs have the processors for ${number(100 * sensors.waited, 0)}% of the time"
    Cause.MEMORY ->
        if (sensors.memoryMb.isInfinite()) {
            "free memory leaves all points"
        } else {
            "free memory leaves points of at most ${number(sensors.memoryMb, 0)} MB"
        }
    Cause.HEAT -> "heat leaves ${sensors.hottest + 1} of $points points"
    Cause.ENERGY -> if (sensors.saving) "the battery is low" else "the battery need not be spared"
    Cause.BUDGET -> "other budgets, ${inWords(speed.slowdown)}"
    else -> inWords(speed.slowdown)
}

/**
 * A decision in one line of English, the same as `toolkit/serving/why.py` writes: why [to] runs from now on, and ran
 * [here]; [says] is the decision's cause, [cause] what has changed. [tried] will be, after a while.
 */
internal fun why(
    says: Cause,
    cause: Cause,
    points: List<Point>,
    here: Int,
    to: Int,
    speed: Speed,
    sensors: Sensors,
    budgets: Budgets,
    limitMs: Double,
    tried: Int?,
): String {
    fun milliseconds(at: Int) = points[at].latencyMs * speed.slowdown * speed.tail
    fun allowed(at: Int) = "${number(milliseconds(at), 2)} ms of ${number(limitMs, 2)} ms allowed"
    fun named(at: Int) = "${number(points[at].latencyMs, 2)} ms"
    val line = StringBuilder(because(cause, speed, sensors, budgets, points.size)).append(": ")
    if (says == Cause.BOUNDED) {
        line.append(if (here == to) "no more steps up in this minute; " else "the last switch of this minute; ")
    }
    line.append(
        when {
            says == Cause.NOTHING_FITS -> "nothing fits; ${named(to)}, the fastest, takes ${allowed(to)}"
            here == to -> "${named(to)} takes ${allowed(to)}"
            milliseconds(here) > limitMs -> "${named(here)} would take ${allowed(here)}; ${named(to)} fits"
            cause == Cause.SLOWER && to < here ->
                "${named(here)} would take about ${allowed(here)}; ${named(to)} fits surely"
            else -> "from ${named(here)} to ${named(to)}, which takes ${allowed(to)}"
        },
    )
    if (points[to].residentMb == null && (budgets.memoryMb != null || sensors.memoryMb.isFinite())) {
        line.append("; its memory is not known")
    }
    if (points[to].energyMj == null && budgets.energyMj != null) line.append("; its energy is not known")
    if (tried != null) line.append("; ${named(tried)} will be tried")
    return line.toString()
}
