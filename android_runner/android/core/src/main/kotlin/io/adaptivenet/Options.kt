package io.adaptivenet

import io.adaptivenet.engine.EngineProvider

/**
 * How to open a model. The defaults are right for most; from Java, [Builder] names what differs. Throws
 * IllegalArgumentException for a number of threads that cannot be; what budgets cannot be, opening a model says.
 */
public class Options @JvmOverloads constructor(
    /** What the [percentile] of all inferences may take, from the caller's input to the caller's output. */
    public val budget: Budget = Budget.percent(100.0),
    /** 50 to 99. */
    public val percentile: Double = 50.0,
    /**
     * Of the artifacts of all that is loaded, and of what a point may keep resident, in 10^6 bytes. Null: no limit, and
     * nothing is kept beside what serves. With a limit, neighbours on the front are loaded ahead where there is room.
     */
    public val memoryMb: Double? = null,
    /** What an inference may take, in millijoules, where the profile knows. */
    public val energyMj: Double? = null,
    /** Of an inference, 1 to 256; null: as profiled. */
    public val threads: Int? = null,
    /** Null: the one of the profile's engine that is in the app. */
    public val engine: EngineProvider? = null,
    /** Takes also a profile of another engine or number of threads; its latencies say less then. */
    public val ofAnotherDevice: Boolean = false,
    /** Sees every program before it serves for the first time, on the thread that loads. */
    public val loadWatch: LoadWatch? = null,
) {
    init {
        require(threads == null || threads in 1..256) { "threads must be 1 to 256: got $threads" }
    }

    /** Options by name, for Java. */
    public class Builder {
        private var options = Options()

        public fun budget(value: Budget): Builder = set(budget = value)

        public fun percentile(value: Double): Builder = set(percentile = value)

        public fun memoryMb(value: Double): Builder = set(memoryMb = value)

        public fun energyMj(value: Double): Builder = set(energyMj = value)

        public fun threads(value: Int): Builder = set(threads = value)

        public fun engine(value: EngineProvider): Builder = set(engine = value)

        public fun ofAnotherDevice(value: Boolean): Builder = set(ofAnotherDevice = value)

        public fun loadWatch(value: LoadWatch): Builder = set(loadWatch = value)

        public fun build(): Options = options

        private fun set(
            budget: Budget = options.budget,
            percentile: Double = options.percentile,
            memoryMb: Double? = options.memoryMb,
            energyMj: Double? = options.energyMj,
            threads: Int? = options.threads,
            engine: EngineProvider? = options.engine,
            ofAnotherDevice: Boolean = options.ofAnotherDevice,
            loadWatch: LoadWatch? = options.loadWatch,
        ): Builder {
            options = Options(budget, percentile, memoryMb, energyMj, threads, engine, ofAnotherDevice, loadWatch)
            return this
        }
    }
}

/**
 * Sees the first load and run of every program, on the loader's thread: engines have ended the process on new
 * processors. An app writes down what is tried, calls `work`, and strikes it out; what was not struck out when it
 * starts again ended it.
 */
public fun interface LoadWatch {
    /**
     * Calls [work] once, or throws [DeviceException] to refuse the program of [blocks]; the subnet is then not tried
     * again for a while, and another one serves.
     */
    public fun watch(blocks: List<String>, work: Runnable)
}
