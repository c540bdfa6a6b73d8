package io.adaptivenet.control

import io.adaptivenet.Cause
import io.adaptivenet.Point
import io.adaptivenet.Sensor
import io.adaptivenet.Signals
import kotlin.math.abs
import kotlin.math.max
import kotlin.math.min

// The reasons are in toolkit/serving/sensors.py.
private const val BATTERY_SILENT_S = 600.0
private const val BATTERY_STUCK_S = 1800.0
private const val LEAST_LIMIT = 30.0
private const val MOST_LIMIT = 150.0
private const val DEGREES = 30.0
private const val HOT = 0.95
private const val COOL = 0.85
private const val HOTTER_S = 10.0
private const val COOLER_S = 20.0
private const val SHORT_MB = 128.0
private const val PLENTY_MB = 256.0
private const val PRESSED = 10.0
private const val RELAXED = 1.0
private const val SHORTER_S = 5.0
private const val PLENTIER_S = 10.0
private const val LOW = 15.0
private const val CHARGED = 20.0
private const val LOAD_BAND = 0.10
private const val MOST_LOAD = 0.90

private const val INFINITE = Double.POSITIVE_INFINITY

/**
 * What each point takes; where that is not known, as much as any faster one, or as the smallest. Empty where none is
 * known.
 */
private fun held(points: List<Point>): List<Double> {
    val smallest = points.minOf { it.residentMb ?: INFINITE }
    if (smallest.isInfinite()) return emptyList()
    val held = ArrayList<Double>()
    var most = 0.0
    for (point in points) {
        held += point.residentMb ?: if (held.isEmpty()) smallest else most
        most = max(most, held.last())
    }
    return held
}

/**
 * What the device's sensors are believed to say, and which points they leave, as in `toolkit/serving/sensors.py`, which
 * gives the reasons.
 */
internal class Sensors(points: List<Point>) {
    private val last = points.lastIndex
    private val heldMb = held(points)
    private val free = Reading(1.0, 1e8, false)
    private val pressure = Reading(0.0, 100.0, true)
    private val celsius = Reading(-40.0, 150.0, true)
    private val headroom = Reading(0.0, 3.0, true)
    private val battery = Reading(1.0, 100.0, false, BATTERY_SILENT_S, BATTERY_STUCK_S)
    private val load = Reading(0.0, 1.0, true)
    private var throttlesAt: Double? = null
    private var charging = false
    private var heatS = -INFINITE // when it last took a point away, or gave one back
    private var memoryS = -INFINITE

    /** The load. */
    var waited = 0.0
        private set

    /** The last point that may run. */
    var hottest = last
        private set

    /** What a point may take; infinite: anything. */
    var memoryMb = INFINITE
        private set

    /** A point is to run that takes half of what it could. */
    var saving = false
        private set

    /** When the first sensor that is believed would no longer be. */
    var untilS = INFINITE
        private set

    /** Whether short memory leaves a point. */
    fun may(at: Int): Boolean = heldMb.isEmpty() || heldMb[at] <= memoryMb

    /** What the sensors say while [point] runs. What it changes, if anything. */
    fun give(atS: Double, signals: Signals, point: Int): Cause? {
        signals.throttlesAt?.let { if (it in LEAST_LIMIT..MOST_LIMIT) throttlesAt = it }
        signals.charging?.let { charging = it }
        val states = signals.states
        free.give(atS, signals.freeMb, Sensor.FREE_MB in states)
        pressure.give(atS, signals.pressure, Sensor.PRESSURE in states)
        celsius.give(atS, signals.celsius, Sensor.CELSIUS in states)
        headroom.give(atS, signals.headroom, Sensor.HEADROOM in states)
        battery.give(atS, signals.battery, Sensor.BATTERY in states)
        load.give(atS, signals.waited, Sensor.WAITED in states)
        return look(atS, point)
    }

    /** What has changed, also by sensors that have said nothing for too long: the first of several. */
    fun look(atS: Double, point: Int): Cause? {
        val memory = lookAtMemory(atS, point)
        val heat = lookAtHeat(atS, point)
        val energy = lookAtBattery(atS)
        val busy = lookAtLoad(atS)
        untilS = INFINITE
        for (each in listOf(free, pressure, celsius, headroom, battery, load)) {
            if (each.untilS >= atS) untilS = min(untilS, each.untilS)
        }
        return when {
            memory -> Cause.MEMORY
            heat -> Cause.HEAT
            energy -> Cause.ENERGY
            busy -> Cause.LOAD
            else -> null
        }
    }

    private fun lookAtMemory(atS: Double, point: Int): Boolean {
        val free = free.believed(atS)
        val pressure = pressure.believed(atS)
        val before = memoryMb
        val smallest = heldMb.minOrNull() ?: INFINITE
        val largest = heldMb.maxOrNull() ?: 0.0
        val larger = heldMb.filter { it > memoryMb }.minOrNull() ?: INFINITE // the next one above what may be taken now
        val isShort = (free != null && free < SHORT_MB) || (pressure != null && pressure >= PRESSED)
        val isPlenty = (free == null || free >= PLENTY_MB) && (pressure == null || pressure < RELAXED)
        if ((free == null && pressure == null) || heldMb.isEmpty()) {
            memoryMb = INFINITE
        } else if (isShort) {
            if (atS - memoryS >= SHORTER_S) {
                val lacks = if (free != null) max(1.0, SHORT_MB - free) else 1.0
                memoryMb = min(memoryMb, max(heldMb[point] - lacks, smallest))
            }
        } else if (isPlenty && atS - memoryS >= PLENTIER_S) {
            memoryMb = max(memoryMb, if (free != null) heldMb[point] + (free - PLENTY_MB) else larger)
            if (memoryMb >= largest) memoryMb = INFINITE
        }
        if (memoryMb != before) memoryS = atS
        return memoryMb != before
    }

    private fun lookAtHeat(atS: Double, point: Int): Boolean {
        val degrees = celsius.believed(atS)
        val limit = throttlesAt
        var room = headroom.believed(atS)
        val before = hottest
        if (degrees != null && limit != null) {
            val byDegrees = max(0.0, 1 - (limit - degrees) / DEGREES)
            room = if (room != null) max(room, byDegrees) else byDegrees
        }
        if (room == null) {
            hottest = last
        } else if (room >= HOT && atS - heatS >= HOTTER_S) {
            hottest = max(min(hottest, point) - 1, 0)
        } else if (room <= COOL && atS - heatS >= COOLER_S) {
            hottest = min(hottest + 1, last)
        }
        if (hottest != before) heatS = atS
        return hottest != before
    }

    private fun lookAtBattery(atS: Double): Boolean {
        val percent = battery.believed(atS)
        val before = saving
        if (percent == null || charging || percent >= CHARGED) {
            saving = false
        } else if (percent <= LOW) {
            saving = true
        }
        return saving != before
    }

    private fun lookAtLoad(atS: Double): Boolean {
        val share = load.believed(atS)
        val before = waited
        if (share == null) {
            waited = 0.0
        } else if (abs(share - waited) >= LOAD_BAND) {
            waited = min(share, MOST_LOAD)
        }
        return waited != before
    }
}
