package io.adaptivenet

import io.adaptivenet.calibration.CalibrationTarget
import io.adaptivenet.calibration.Clock
import io.adaptivenet.calibration.Course
import io.adaptivenet.calibration.Journal
import io.adaptivenet.calibration.Loading
import io.adaptivenet.calibration.Measuring
import io.adaptivenet.calibration.Outcome
import io.adaptivenet.calibration.Searching
import io.adaptivenet.calibration.Timings
import io.adaptivenet.calibration.subnetsOf
import io.adaptivenet.json.Json
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
     * cannot be read, is damaged or does not belong together; the next calibration goes on there when it is mended.
     * Throws [DeviceException] when the engine or all points fail, nothing can be
     * written, or another job calibrates the same.
     */
    @JvmOverloads
    public fun run(listener: CalibrationListener? = null): CalibrationResult = onThread { calibrate(course(listener)) }

    /** Ends it, between two inferences, and for good: what goes on there is another calibration. Returns at once. */
    public fun cancel() {
        cancelled.countDown()
    }

    /**
     * [run], where that was not done, and then a search on the app's own [pictures]: for subnets of the pack's blocks
     * that agree more with the original network, by the pack's metric that needs no labels, within latencies from the
     * fastest subnet's to the whole network's. The front of this device's profile is replaced by what is found: every
     * point has seen all pictures, of which the search saw two thirds and the quality is from the others, and was
     * measured on this device. While it is searched, subnets meet pictures at most [evaluations] times; 20 for each
     * picture are as many as `adaptivenet-profile` takes. What was searched once is not searched again: delete the
     * profile for that.
     *
     * Bounds, [cancel] and journals are as in [run]. Throws what that throws, [PackException] for a pack without such a
     * metric, [ProfileException] for a profile that does not tell what blocks take, [DataException] for pictures that
     * are too few, too many or do not fit, and IllegalArgumentException for too few evaluations.
     */
    @JvmOverloads
    public fun search(
        pictures: Pictures,
        evaluations: Int = 20 * pictures.size,
        listener: CalibrationListener? = null,
    ): CalibrationResult = onThread {
        val course = course(listener)
        val ran = calibrate(course)
        if (ran.isDone) search(course, pictures, evaluations) else ran
    }

    private fun course(listener: CalibrationListener?) = Course(bounds, heat, cancelled, clock, listener)

    private fun onThread(work: () -> CalibrationResult): CalibrationResult {
        var outcome: Result<CalibrationResult>? = null
        val thread = threads.newThread { outcome = runCatching(work) }
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

    private fun calibrate(course: Course): CalibrationResult {
        val target = CalibrationTarget(profile, home, options, device)
        if (target.isDone()) return CalibrationResult(CalibrationEnd.DONE, target.profile)
        val pack = Pack.open(folder)
        target.known.requireMadeFor(pack)
        target.provider.open(target.threads).use { engine ->
            val assembler = Assembler(pack, engine, options.loadWatch)
            Loading(assembler, limitBytes).use { loading ->
                val all = subnetsOf(target.document)
                val subnets = all.filter { loading.isPossible(it) }
                Journal(target.journal, target.header(subnets), subnets.size).use { journal ->
                    val end = Measuring(assembler, loading, subnets, course, journal).run()
                    if (end != CalibrationEnd.DONE) return CalibrationResult(end, null)
                    val outcomes = all.associateWith { outcome(journal.timings, subnets.indexOf(it)) }
                    val made = try {
                        target.calibrated(pack.graph.oracle, outcomes, journal.seconds, journal.timings.uncertainty())
                    } catch (error: DeviceException) { // the next calibration tries all of it anew
                        journal.delete()
                        throw error
                    }
                    target.save(made)
                    journal.delete()
                }
            }
        }
        course.tell(1.0)
        return CalibrationResult(CalibrationEnd.DONE, target.profile)
    }

    private fun search(course: Course, pictures: Pictures, evaluations: Int): CalibrationResult {
        require(evaluations >= 2 * pictures.size) { "too few evaluations of ${pictures.size} pictures: $evaluations" }
        val target = CalibrationTarget(profile, home, options, device)
        val document = target.calibrated()
        if ((document["calibration"] as? Json.Fields)?.get("searched_on") != null) {
            return CalibrationResult(CalibrationEnd.DONE, target.profile)
        }
        val pack = Pack.open(folder)
        target.provider.open(target.threads).use { engine ->
            val assembler = Assembler(pack, engine, options.loadWatch)
            Loading(assembler, limitBytes).use { loading ->
                val searching = Searching(assembler, loading, target, document, course)
                val made = searching.run(pictures, evaluations) ?: return CalibrationResult(searching.end, null)
                target.save(made)
                searching.delete()
            }
        }
        course.tell(1.0)
        return CalibrationResult(CalibrationEnd.DONE, target.profile)
    }

    private val limitBytes: Long? get() = options.memoryMb?.let { (it * 1e6).toLong() }

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
