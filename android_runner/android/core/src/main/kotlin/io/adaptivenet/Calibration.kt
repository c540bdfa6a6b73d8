package io.adaptivenet

import io.adaptivenet.calibration.CalibrationTarget
import io.adaptivenet.calibration.Clock
import io.adaptivenet.calibration.Journal
import io.adaptivenet.calibration.Measuring
import io.adaptivenet.calibration.Outcome
import io.adaptivenet.calibration.Timings
import io.adaptivenet.calibration.subnetsOf
import io.adaptivenet.pack.Pack
import io.adaptivenet.serving.Assembler
import java.io.File
import java.util.concurrent.CountDownLatch
import java.util.concurrent.ThreadFactory

/**
 * Measures on this device what a profile of another one says: the latencies of its front and of its whole networks. The
 * profile of this device that comes of it lies in a folder of the app, and [profileFor] finds it from then on. It is
 * the step after installing, without a cable: an app begins with the profile of the nearest device.
 *
 * [run] does it, and blocks; [cancel] ends it between two inferences. What was measured is kept in a journal beside the
 * profile, and the next calibration of the same goes on there, also in another process. A model may serve meanwhile, on
 * ONNX Runtime beside it; on ExecuTorch programs are opened between its inferences, and both must have equally many
 * threads, as they have with the same options.
 *
 * [folder] is the pack, [profile] the one that this device would begin with, [home] a folder for what is written, one
 * for each pack. [options] are those that models are opened with: their engine, threads and watch count, and
 * `memoryMb` is the limit of what is loaded at a time. Without one, the programs of one subnet are, and no limit holds.
 * [heat] is asked every 5 s at most. [threads] makes the thread that measures; that of the default has the priority of
 * background work.
 *
 * Every function may be called from any thread.
 */
public class Calibration internal constructor(
    private val folder: File,
    private val profile: File,
    private val home: File,
    private val device: ThisDevice,
    private val options: Options,
    private val bounds: CalibrationBounds,
    private val heat: Heat,
    private val threads: ThreadFactory,
    private val clock: Clock,
) {
    @JvmOverloads
    public constructor(
        folder: File,
        profile: File,
        home: File,
        device: ThisDevice = ThisDevice(),
        options: Options = Options(),
        bounds: CalibrationBounds = CalibrationBounds(),
        heat: Heat = Heat { null },
        threads: ThreadFactory = ThreadFactory { inBackground(it) },
    ) : this(folder, profile, home, device, options, bounds, heat, threads, Clock.System)

    private val cancelled = CountDownLatch(1)

    /**
     * Measures until all is known well enough, a bound is reached, or it is cancelled, and says which. Done is also
     * what was done before: nothing is measured then. Where time is up after three rounds or more, what these say is
     * enough. [listener] is called on the thread that measures, after every subnet.
     *
     * Blocks. A thread that is interrupted meanwhile cancels it. Throws [PackException] and [ProfileException] for what
     * cannot be read or does not belong together, [DeviceException] when the engine or all points fail, nothing can be
     * written, or another job calibrates the same.
     */
    @JvmOverloads
    public fun run(listener: CalibrationListener? = null): CalibrationResult {
        var outcome: Result<CalibrationResult>? = null
        val thread = threads.newThread { outcome = runCatching { calibrate(listener) } }
        thread.start()
        var isInterrupted = false
        while (thread.isAlive) {
            try {
                thread.join()
            } catch (_: InterruptedException) { // the thread uses what would be released
                isInterrupted = true
                cancel()
            }
        }
        if (isInterrupted) Thread.currentThread().interrupt()
        return checkNotNull(outcome) { "the thread that measures did not run" }.getOrThrow()
    }

    /** Ends it, between two inferences, and for good: what goes on there is another calibration. Returns at once. */
    public fun cancel() {
        cancelled.countDown()
    }

    private fun calibrate(listener: CalibrationListener?): CalibrationResult {
        val target = CalibrationTarget(profile, home, options, device)
        if (target.isDone()) return CalibrationResult(CalibrationEnd.DONE, target.profile)
        val pack = Pack.open(folder)
        target.known.requireMadeFor(pack)
        target.provider.open(target.threads).use { engine ->
            val assembler = Assembler(pack, engine, options.loadWatch)
            val limitBytes = options.memoryMb?.let { (it * 1e6).toLong() }
            val all = subnetsOf(target.document)
            val subnets = all.filter { each ->
                each.all { it in pack.graph } &&
                    (limitBytes == null || assembler.pieces(each).sumOf { it.bytes } <= limitBytes)
            }
            Journal.open(target.journal, target.header(subnets), subnets.size).use { journal ->
                val end = Measuring(
                    assembler, subnets, limitBytes, bounds, heat, cancelled, journal, clock, listener,
                ).run()
                if (end != CalibrationEnd.DONE) return CalibrationResult(end, null)
                val outcomes = all.associateWith { outcome(journal.timings, subnets.indexOf(it)) }
                val made = try {
                    target.calibrated(pack.graph.oracle, outcomes, journal.seconds)
                } catch (error: DeviceException) { // the next calibration tries all of it anew
                    journal.delete()
                    throw error
                }
                target.save(made)
                journal.delete()
            }
        }
        listener?.onProgress(CalibrationProgress(1.0, isPaused = false))
        return CalibrationResult(CalibrationEnd.DONE, target.profile)
    }

    private fun outcome(timings: Timings, at: Int): Outcome {
        if (at < 0) return Outcome.Unknown
        timings.failure(at)?.let { return Outcome.Failed(it) }
        return timings.measured()[at]?.let { Outcome.Known(it) } ?: Outcome.Unknown
    }

    public companion object {
        /**
         * The profile to open a model with: that of this device, where it was calibrated with this [profile] and these
         * options and its engine is still the same, else [profile] itself. May block. Throws [ProfileException] for
         * what is none, [DeviceException] where its engine is not in the app.
         */
        @JvmStatic
        @JvmOverloads
        public fun profileFor(
            profile: File,
            home: File,
            device: ThisDevice = ThisDevice(),
            options: Options = Options(),
        ): File = CalibrationTarget(profile, home, options, device).let { if (it.isDone()) it.profile else profile }

        private fun inBackground(work: Runnable) = Thread(work, "adaptivenet-calibration").apply {
            isDaemon = true
            priority = 4 // nice 10 on Android
        }
    }
}
