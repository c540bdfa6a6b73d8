package io.adaptivenet.control

import kotlin.math.max
import kotlin.math.min

/**
 * One sensor, whose values are from [least] to [most]. It is believed while they can be, come, and move; of its last
 * two the less alarming one counts. [highAlarms]: the high values are feared, not the low ones.
 */
internal class Reading(
    private val least: Double,
    private val most: Double,
    private val highAlarms: Boolean,
    private val silentS: Double = 30.0,
    private val stuckS: Double = 120.0,
) {
    private var last = 0.0
    private var before = 0.0
    private var given = 0 // values since it was silent, 2 at most
    private var moved = false // since it was silent
    private var state = false // what it said last
    private var seenS = 0.0
    private var movedS = 0.0

    /** [isState]: the value may stand still, and the last one counts. */
    fun give(atS: Double, value: Double?, isState: Boolean) {
        if (value == null || !(value >= least && value <= most)) return // NaN is neither
        if (given > 0 && atS - seenS > silentS) {
            given = 0
            moved = false
        }
        if (given > 0 && value != last) {
            moved = true
            movedS = atS
        }
        before = last
        last = value
        seenS = atS
        state = isState
        given = min(2, given + 1)
    }

    fun believed(atS: Double): Double? {
        if (state) return if (atS > untilS) null else last
        if (given < 2 || !moved || atS > untilS) return null
        return if (highAlarms) min(last, before) else max(last, before)
    }

    /** When it is no longer believed unless it says something else. */
    val untilS: Double
        get() = when {
            state -> seenS + silentS
            moved -> min(seenS + silentS, movedS + stuckS)
            else -> Double.POSITIVE_INFINITY
        }
}
