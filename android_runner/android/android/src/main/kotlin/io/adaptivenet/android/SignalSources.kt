package io.adaptivenet.android

import io.adaptivenet.Sensor
import io.adaptivenet.Signals
import kotlin.math.max
import kotlin.math.min

/** One part of a device that has something to say to a model. */
internal fun interface SignalSource {
    /** What it says now, or null where it says nothing. May block, and is asked by one thread at a time. */
    fun read(): Signals?
}

/** What Android says of heat; null where it says nothing. */
internal interface Thermometer {
    /** 1 where the device throttles, as it is expected to be in some seconds. */
    fun headroom(): Double?

    /** One of `PowerManager.THERMAL_STATUS_…`: 0 (none) to 6 (the device is about to be switched off). */
    fun status(): Int?
}

/** What Android says of memory, in bytes; null where it says nothing. */
internal fun interface Memory {
    /** What programs may take before Android ends some of them. */
    fun free(): Long?
}

/** What Android says of energy; null where it says nothing. */
internal interface Power {
    fun percent(): Int?

    fun isCharging(): Boolean?

    fun isSaving(): Boolean?
}

/** Heat: the headroom, or the status where that is worse or there never is a headroom. */
internal class HeatSource(private val thermometer: Thermometer) : SignalSource {
    private var hasHeadroom = false

    override fun read(): Signals? {
        val measured = thermometer.headroom()?.takeIf { it.isFinite() && it >= 0 }
        val byStatus = thermometer.status()?.let { OF_STATUS[it.coerceIn(OF_STATUS.indices)] }
        if (measured != null) hasHeadroom = true
        return when {
            byStatus != null && byStatus >= CALM && (measured == null || measured < byStatus) -> stated(byStatus)
            // Of a status that is no reason for anything the headroom knows better, also when it is not told every time.
            hasHeadroom -> measured?.let { Signals(headroom = it) }
            else -> byStatus?.let { stated(it) }
        }
    }

    private fun stated(headroom: Double) = Signals(headroom = headroom, states = setOf(Sensor.HEADROOM))

    private companion object {
        /** Where the headroom would be: it is 1 where the status becomes severe. */
        val OF_STATUS = listOf(0.5, 0.9, 0.96, 1.0, 1.1, 1.2, 1.3)
        const val CALM = 0.9
    }
}

/**
 * Memory: what is free, and Android's calls to give some back. These are few, and since Android 14 none comes while an app is
 * in front: what is free is what counts then.
 */
internal class MemorySource(
    private val memory: Memory,
    private val nanoTime: () -> Long = System::nanoTime,
) : SignalSource {
    private var pressure = 0.0
    private var saidNs = 0L

    /** Android's call, one of `ComponentCallbacks2.TRIM_MEMORY_…`. Whether it is one for memory. From any thread. */
    fun trim(level: Int): Boolean {
        // 20 says that the app's window is hidden, and nothing of memory.
        val found = when {
            level == UI_HIDDEN -> return false
            level >= COMPLETE -> 100.0
            level >= BACKGROUND -> 40.0
            level >= RUNNING_CRITICAL -> 60.0
            level >= RUNNING_LOW -> 25.0
            level >= RUNNING_MODERATE -> 10.0
            else -> return false
        }
        synchronized(this) {
            pressure = max(found, if (isOver()) 0.0 else pressure)
            saidNs = nanoTime()
        }
        return true
    }

    override fun read(): Signals {
        val now = synchronized(this) { if (isOver()) 0.0 else pressure }
        return Signals(
            freeMb = memory.free()?.let { it / 1e6 },
            pressure = now,
            states = setOf(Sensor.PRESSURE),
        )
    }

    private fun isOver() = nanoTime() - saidNs > LASTS_NS

    private companion object {
        const val RUNNING_MODERATE = 5
        const val RUNNING_LOW = 10
        const val RUNNING_CRITICAL = 15
        const val UI_HIDDEN = 20
        const val BACKGROUND = 40
        const val COMPLETE = 80
        const val LASTS_NS = 15_000_000_000L // a call is an event; the share of waiting that it stands for is of 10 s
    }
}

/** Energy: the battery's charge; where Android saves energy, as if it were low. */
internal class EnergySource(private val power: Power) : SignalSource {
    override fun read(): Signals? {
        val percent = power.percent()?.takeIf { it in 1..100 }?.toDouble()
        // Whoever switches the saver on while the device charges wants it to charge.
        if (power.isSaving() == true) {
            return Signals(battery = min(percent ?: LOW, LOW), charging = false, states = setOf(Sensor.BATTERY))
        }
        val charging = power.isCharging()
        return if (percent == null && charging == null) null else Signals(battery = percent, charging = charging)
    }

    private companion object {
        const val LOW = 14.0 // percent; the controller saves from 15 on
    }
}

/** What several sources say, in one; the first that says something counts. */
internal fun together(all: List<Signals>): Signals = all.fold(Signals()) { one, other ->
    Signals(
        freeMb = one.freeMb ?: other.freeMb,
        pressure = one.pressure ?: other.pressure,
        celsius = one.celsius ?: other.celsius,
        throttlesAt = one.throttlesAt ?: other.throttlesAt,
        headroom = one.headroom ?: other.headroom,
        battery = one.battery ?: other.battery,
        charging = one.charging ?: other.charging,
        waited = one.waited ?: other.waited,
        states = one.states + (other.states - one.told()),
    )
}

private fun Signals.told(): Set<Sensor> = buildSet {
    if (freeMb != null) add(Sensor.FREE_MB)
    if (pressure != null) add(Sensor.PRESSURE)
    if (celsius != null) add(Sensor.CELSIUS)
    if (headroom != null) add(Sensor.HEADROOM)
    if (battery != null) add(Sensor.BATTERY)
    if (waited != null) add(Sensor.WAITED)
}
