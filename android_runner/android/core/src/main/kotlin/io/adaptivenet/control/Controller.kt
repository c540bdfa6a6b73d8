package io.adaptivenet.control

import io.adaptivenet.Budgets
import io.adaptivenet.Cause
import io.adaptivenet.Decision
import io.adaptivenet.DeviceException
import io.adaptivenet.Point
import io.adaptivenet.Signals
import kotlin.math.max
import kotlin.math.min

// The reasons are in toolkit/serving/controller.py.
private const val MINUTE_S = 60.0
private const val SWITCHES = 12 // at most so many in any minute
private const val UPS = 9
private const val WAIT_S = 0.25
private const val LONGEST_WAIT_S = 120.0
private const val FAILED = 4.0
private const val FAULTLESS = 8
private const val SPARING = 4
private const val SMALL = 1.05
private const val SMALL_WAIT_S = 2.0
private const val TRIED_S = 10.0

private const val INFINITE = Double.POSITIVE_INFINITY

private fun causeOf(change: Change): Cause = when (change) {
    Change.SLOWER -> Cause.SLOWER
    Change.NOISE -> Cause.NOISE
    else -> Cause.FASTER
}

/**
 * Which point of the front to run, given how the device is right now. It decides as `toolkit/serving/controller.py`
 * does, which gives the reasons; both are tested with `tests/vectors/controller.json`.
 *
 * [points] are those of a front, by ascending latency. Begins with the best point of a device that is as profiled, or
 * with the fastest where nothing fits. Throws [DeviceException] for points that are no front. Times are seconds of one
 * clock that does not go back; one that does, or is no number, stands still. For one thread at a time.
 */
internal class Controller(private val points: List<Point>, private var budgets: Budgets) {
    private val speed: Speed
    private val sensors: Sensors
    private var nowS = 0.0
    private val switchesS = ArrayDeque<Double>() // the last ones, the oldest first
    private var switchedS = -INFINITE
    private var waitS = WAIT_S // from a switch to the next step up
    private var triedS: Double? = null // when it last stepped up, until that has proved right or wrong
    private var failed: Int? = null // the point of a try that failed, until it is known by whose fault
    private var againS = INFINITE // when to try what had to wait
    private var cause = Cause.START // of the latest decision

    /** The latest one. */
    var decision: Decision
        private set

    /** To run. */
    val point: Int get() = decision.point
    val slowdown: Double get() = speed.slowdown

    init {
        val areTimes = points.all { it.latencyMs.isFinite() && it.latencyMs > 0 }
        val ascend = points.zipWithNext().all { (one, other) -> one.latencyMs <= other.latencyMs }
        if (points.isEmpty() || !areTimes || !ascend) {
            throw DeviceException("a front needs at least one point, and positive latencies in ascending order")
        }
        speed = Speed(budgets.percentile)
        sensors = Sensors(points)
        val found = best(0, 1.0)
        decision = Decision(found ?: 0, 1.0, Cause.START, "")
        decision = decisionFor(if (found != null) Cause.START else Cause.NOTHING_FITS, point)
    }

    /**
     * After an inference of the point [ran] that took [latencyMs] by the profile's clock and ended at [endedS]; it is
     * not the current point while that one is still loaded, or cannot be. Whether a decision was made, which need not
     * be a switch. A latency that is no positive number is ignored.
     */
    fun observe(endedS: Double, latencyMs: Double, ran: Int = point): Boolean {
        if (!(latencyMs.isFinite() && latencyMs > 0)) return false
        pass(if (endedS.isFinite()) endedS else nowS + latencyMs / 1000)
        val change = speed.observe(latencyMs / points[ran].latencyMs, ran != point)
        if (nowS > sensors.untilS) sensors.look(nowS, point)?.let { return decide(it) }
        if (change != Change.NONE) return decide(causeOf(change))
        return nowS >= againS && decide(cause)
    }

    /** What sensors say at a time, at any rate. Whether a decision was made. */
    fun sense(atS: Double, signals: Signals): Boolean {
        pass(atS)
        return sensors.give(nowS, signals, point)?.let { decide(it) } ?: false
    }

    /** Other budgets from now on. */
    fun setBudgets(atS: Double, others: Budgets) {
        pass(atS)
        budgets = others
        speed.require(others.percentile)
        decide(Cause.BUDGET)
    }

    private fun pass(atS: Double) {
        if (atS.isFinite()) nowS = max(nowS, atS)
    }

    /** What an inference may take by the profile's clock, which leaves out the time in which others run. */
    private val limitMs: Double get() = budgets.latencyMs * (1 - sensors.waited)

    private fun takesMs(at: Int, slower: Double): Double = points[at].latencyMs * slower * speed.tail

    /** Whether a point fits all budgets; what is not known of it fits. */
    private fun may(at: Int, slower: Double): Boolean {
        if (at > sensors.hottest || takesMs(at, slower) > limitMs || !sensors.may(at)) return false
        val (_, resident, energy) = points[at]
        return fits(resident, budgets.memoryMb) && fits(energy, budgets.energyMj)
    }

    private fun fits(value: Double?, most: Double?): Boolean = value == null || most == null || value <= most

    /** The best point that fits, reckoning with [slowerHere] for the point [here]; null where none does. */
    private fun best(here: Int, slowerHere: Double): Int? {
        val most = speed.most
        fun fits(at: Int) = may(at, if (at == here) slowerHere else most)
        val found = points.indices.lastOrNull { fits(it) } ?: return null
        if (!sensors.saving) return found
        var fastest = found
        for (at in found downTo 0) {
            if (!fits(at)) continue
            fastest = at
            if (cost(at, found) <= cost(found, at) / 2) return at
        }
        return fastest
    }

    /** The energy of a point; its time where the energy of either of two is not known. */
    private fun cost(at: Int, other: Int): Double {
        val energy = points[at].energyMj
        return if (energy != null && points[other].energyMj != null) energy else points[at].latencyMs
    }

    /** What to run, now that something has changed, or may be tried that had to wait. Whether a decision was made. */
    private fun decide(given: Cause): Boolean {
        val here = point
        val isSure = speed.isSure
        againS = INFINITE
        triedS?.let {
            if (nowS - it > TRIED_S) {
                waitS = WAIT_S
                triedS = null
            }
        }
        // Few inferences tell that the device is slower, but not how much: then what runs needs a margin as well.
        val found = best(here, if (isSure) slowdown else speed.most)
        var to = found ?: 0
        val kind = inDirection(given, to)
        cause = kind
        val recent = switchesS.count { nowS - it < MINUTE_S }
        val careful = to > here && may(here, slowdown)
        if (careful && kind != Cause.BUDGET) {
            if (isSure) judgeTry()
            val wanted = to
            to = bestLately(here, to, recent)
            if (to == here) {
                againS = nowS + WAIT_S
                return stay(kind, wanted)
            }
        }
        if (to == here) {
            if ((kind == Cause.SLOWER || kind == Cause.FASTER) && slowdown == decision.slowdown) return false
            return stay(if (found != null) kind else Cause.NOTHING_FITS)
        }
        val most = if (careful) UPS else SWITCHES - 1
        if (recent > most) {
            againS = switchesS[switchesS.size - 1 - most] + MINUTE_S
            return stay(Cause.BOUNDED)
        }
        val isSmall = points[to].latencyMs < SMALL * points[here].latencyMs
        val fromS = switchedS + (if (isSmall) max(waitS, SMALL_WAIT_S) else waitS)
        if (careful && kind != Cause.BUDGET && !(isSure && nowS >= fromS)) {
            if (isSure) againS = fromS
            return stay(kind, to)
        }
        if (found == null) return switchTo(Cause.NOTHING_FITS, to)
        if (!careful && recent == SWITCHES - 1) {
            // The last switch of this minute goes to the fastest point that fits: it need not be followed by another.
            val fastest = points.indices.first { may(it, speed.most) }
            return switchTo(if (fastest == to) kind else Cause.BOUNDED, fastest)
        }
        return switchTo(kind, to)
    }

    /**
     * The best point up to [best] that would have been within the budget in most of the last inferences, in the more of
     * them the more of this minute's switches are used up; [here] where there is none.
     */
    private fun bestLately(here: Int, best: Int, recent: Int): Int {
        for (at in best downTo here + 1) {
            val (over, of) = overLately(at, true)
            if ((SPARING + recent) * over <= 2 * of && may(at, speed.most)) return at
        }
        return here
    }

    /** Now that a step up is possible again: was the last one that failed its point's own fault? */
    private fun judgeTry() {
        val (over, of) = overLately(failed ?: return, false)
        if (FAULTLESS * over < of) waitS = min(FAILED * waitS, LONGEST_WAIT_S)
        failed = null
    }

    /** How many of the last inferences would have been over the budget as ones of [at], and of how many. */
    private fun overLately(at: Int, allPoints: Boolean): Pair<Int, Int> =
        speed.above(limitMs / points[at].latencyMs, allPoints)

    /** A slowdown that was worked out anew can go either way. */
    private fun inDirection(kind: Cause, to: Int): Cause {
        if (kind != Cause.SLOWER && kind != Cause.FASTER) return kind
        val isFaster = if (to == point) slowdown <= decision.slowdown else to > point
        return if (isFaster) Cause.FASTER else Cause.SLOWER
    }

    /** The point stays, and [tried] will be tried. False where that is nothing new. */
    private fun stay(says: Cause, tried: Int? = null): Boolean {
        val made = decisionFor(says, point, tried)
        if (made == decision) return false
        decision = made
        return true
    }

    private fun switchTo(says: Cause, to: Int): Boolean {
        val isUp = to > point
        if (isUp) {
            triedS = nowS
            failed = null
        } else if (triedS != null && (cause == Cause.SLOWER || cause == Cause.NOISE || cause == Cause.LOAD)) {
            failed = point
            triedS = null
        }
        switchedS = nowS
        if (switchesS.size == SWITCHES) switchesS.removeFirst()
        switchesS.addLast(nowS)
        decision = decisionFor(says, to)
        speed.switched(isUp)
        return true
    }

    private fun decisionFor(says: Cause, to: Int, tried: Int? = null): Decision =
        Decision(to, slowdown, says, why(says, cause, points, point, to, speed, sensors, budgets, limitMs, tried))
}
