package io.adaptivenet

/** What brought a decision about. A decision need not be a switch: the point may still be the best one. */
public enum class Cause(
    /** As in events and traces. */
    public val label: String,
) {
    START("start"),
    SLOWER("slower"),
    FASTER("faster"),
    NOISE("noise"),
    LOAD("load"),
    MEMORY("memory"),
    HEAT("heat"),
    ENERGY("energy"),
    BUDGET("budget"),
    NOTHING_FITS("nothing_fits"),
    BOUNDED("bounded"),
}

/** One point of a front as it was profiled; null is what was not measured. */
public data class Point @JvmOverloads constructor(
    /** The median, in milliseconds. */
    public val latencyMs: Double,
    /** The memory that its loaded blocks take, in 10^6 bytes. */
    public val residentMb: Double? = null,
    /** What one inference takes, in millijoules. */
    public val energyMj: Double? = null,
)

/** What an inference may take; null is not bounded. */
public data class Budgets @JvmOverloads constructor(
    /** In the [percentile] of all inferences, in milliseconds. */
    public val latencyMs: Double,
    /** 50 to 99. */
    public val percentile: Double = 50.0,
    /** In 10^6 bytes. */
    public val memoryMb: Double? = null,
    /** In millijoules. */
    public val energyMj: Double? = null,
) {
    init {
        requirePositive("latency_ms", latencyMs)
        memoryMb?.let { requirePositive("memory_mb", it) }
        energyMj?.let { requirePositive("energy_mj", it) }
        if (!(percentile >= 50 && percentile <= 99)) {
            throw BudgetException("a latency budget is for a percentile from 50 to 99: got $percentile")
        }
    }

    private fun requirePositive(name: String, value: Double) {
        if (!(value.isFinite() && value > 0)) {
            throw BudgetException("the budget $name must be a positive number: got $value")
        }
    }
}

/** Those of [Signals] whose values are believed or not. */
public enum class Sensor { FREE_MB, PRESSURE, CELSIUS, HEADROOM, BATTERY, WAITED }

/** What the sensors of the device say; null says nothing. Values that cannot be are ignored (docs/adapting.md). */
public data class Signals @JvmOverloads constructor(
    /** Memory that programs may still take, in 10^6 bytes. */
    public val freeMb: Double? = null,
    /** Percent of the last 10 s in which some program waited for memory. */
    public val pressure: Double? = null,
    /** Of the sensor that throttles the processor, in degrees Celsius. */
    public val celsius: Double? = null,
    /** Where it throttles, in degrees Celsius. */
    public val throttlesAt: Double? = null,
    /** 0 far from throttling, 1 where it throttles: Android's `getThermalHeadroom`. */
    public val headroom: Double? = null,
    /** Percent. */
    public val battery: Double? = null,
    public val charging: Boolean? = null,
    /** The share of the time for which the thread that infers waited for a processor, 0 to 1. */
    public val waited: Double? = null,
    /**
     * The sensors whose value is a state, which may stand still for as long as it lasts: as Android's thermal status. Of
     * others it is expected that they move.
     */
    public val states: Set<Sensor> = emptySet(),
)

/** Which point runs from now on, how much slower than profiled the device is, and why, in a word and in a line. */
public data class Decision(
    /** Its index in the front, fastest first. */
    public val point: Int,
    public val slowdown: Double,
    public val cause: Cause,
    public val why: String,
)
