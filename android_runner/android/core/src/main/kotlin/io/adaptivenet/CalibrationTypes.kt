package io.adaptivenet

import java.io.File

/** How long and how hot a calibration may get. Throws IllegalArgumentException for values that it cannot have. */
public class CalibrationBounds @JvmOverloads constructor(
    /** Of one run, pauses counted, more than 0; WorkManager ends work after ten minutes. */
    public val maxSeconds: Double = 480.0,
    /** At most so many rounds, 6 to 60, each of which measures every subnet once; fewer where medians are known within 2%. */
    public val rounds: Int = 20,
    /** It pauses from this heat on, until it is 0.1 cooler: 0 is far from throttling, 1 where the device throttles. */
    public val pauseAtHeat: Double = 0.8,
) {
    init {
        require(maxSeconds > 0) { "a calibration takes time: got $maxSeconds seconds" }
        require(rounds in 6..60) { "a calibration has 6 to 60 rounds: got $rounds" }
        require(pauseAtHeat > 0) { "a device is always hotter than $pauseAtHeat" }
    }
}

/** What tells how hot the device is. */
public fun interface Heat {
    /**
     * 0 far from throttling, 1 where it throttles, as Android's `getThermalHeadroom`; null: as before. Called on the thread
     * that measures; what it throws ends the calibration.
     */
    public fun headroom(): Double?
}

/** An app's own pictures, as a model's input takes them; nobody need know what is on them. */
public interface Pictures {
    /** How many there are. */
    public val size: Int

    /** Writes one of them, from 0 on, to [input]. It is asked for several times, on the thread that searches. */
    public fun read(at: Int, input: TensorBuffer)

    public companion object {
        /** Those that an iterator gives, as values in the order of the input. They are kept in the Java heap. */
        @JvmStatic
        public fun of(tensors: Iterator<FloatArray>): Pictures = object : Pictures {
            private val all = tensors.asSequence().map { it.copyOf() }.toList()

            override val size: Int get() = all.size

            override fun read(at: Int, input: TensorBuffer) {
                input.write(all[at])
            }
        }
    }
}

/** The device that is calibrated, as its profile shall name it. */
public class ThisDevice @JvmOverloads constructor(
    public val name: String = System.getProperty("os.arch").orEmpty(),
    public val os: String = "${System.getProperty("os.name")} ${System.getProperty("os.version")}",
    /** The system on a chip, as Android calls it; null: no Android device. */
    public val soc: String? = null,
    /** What changes when the app does, and the engine with it; it counts where the engine does not tell its version. */
    public val app: String? = null,
)

/** Sees how a calibration gets on. */
public fun interface CalibrationListener {
    /** Called on the thread that measures. What it throws ends the calibration, and [Calibration.run] throws it. */
    public fun onProgress(progress: CalibrationProgress)
}

/** How far a calibration is. */
public data class CalibrationProgress(
    /** Of all that may have to be measured, 0 to 1. */
    public val share: Double,
    /** It waits until the device is cooler. */
    public val isPaused: Boolean,
)

/** What ended a run of a calibration. */
public enum class CalibrationEnd {
    /** The profile of this device is there. */
    DONE,

    /** [Calibration.cancel] was called; another calibration goes on there. */
    CANCELLED,

    /** Time was up before enough was known; another run goes on there. */
    OUT_OF_TIME,
}

/** What came of a run of a calibration. */
public data class CalibrationResult(
    public val end: CalibrationEnd,
    /** Of this device; null unless it is done. */
    public val profile: File?,
) {
    public val isDone: Boolean get() = end == CalibrationEnd.DONE
}
