package io.adaptivenet.calibration

import io.adaptivenet.AdaptiveNetException
import io.adaptivenet.CalibrationBounds
import io.adaptivenet.CalibrationEnd
import io.adaptivenet.CalibrationListener
import io.adaptivenet.CalibrationProgress
import io.adaptivenet.Heat
import io.adaptivenet.PackException
import java.util.concurrent.CountDownLatch
import java.util.concurrent.TimeUnit

private const val LOOK_MS = 5_000L // Android does not tell of heat more often than this
private const val COOLER = 0.1 // by how much it must be cooler before it goes on

/** Time, as a calibration sees it. */
internal interface Clock {
    fun nanoTime(): Long

    /** Waits so long, or until [end] is reached; whether it is. */
    fun await(end: CountDownLatch, ms: Long): Boolean

    object System : Clock {
        override fun nanoTime(): Long = java.lang.System.nanoTime()

        override fun await(end: CountDownLatch, ms: Long): Boolean = end.await(ms, TimeUnit.MILLISECONDS)
    }
}

/** What ends a run of a calibration, or has it wait: time, heat, and [cancelled]. For one thread. */
internal class Course(
    val bounds: CalibrationBounds,
    private val heat: Heat,
    private val cancelled: CountDownLatch,
    val clock: Clock,
    private val listener: CalibrationListener?,
) {
    private val begunNs = clock.nanoTime()
    private var headroom: Double? = null // what was last said
    private var lookedNs: Long? = null

    /** What ends it now; null: nothing does. */
    fun end(): CalibrationEnd? = when {
        cancelled.count == 0L -> CalibrationEnd.CANCELLED
        secondsSince(begunNs) >= bounds.maxSeconds -> CalibrationEnd.OUT_OF_TIME
        else -> null
    }

    fun secondsSince(ns: Long): Double = (clock.nanoTime() - ns) / 1e9

    /** Waits until the device is cool enough, after [release]; tells how far it is, [share]. */
    fun cool(share: Double, release: () -> Unit): CalibrationEnd? {
        if (!isHotter(bounds.pauseAtHeat)) return end()
        release()
        while (isHotter(bounds.pauseAtHeat - COOLER)) {
            end()?.let { return it }
            tell(share, isPaused = true)
            clock.await(cancelled, LOOK_MS)
        }
        return end()
    }

    private fun isHotter(limit: Double): Boolean {
        val lastNs = lookedNs
        if (lastNs == null || clock.nanoTime() - lastNs >= TimeUnit.MILLISECONDS.toNanos(LOOK_MS)) {
            lookedNs = clock.nanoTime()
            heat.headroom()?.takeIf { it.isFinite() }?.let { headroom = it } // not every look is answered
        }
        return headroom?.let { it >= limit } ?: false
    }

    fun tell(share: Double, isPaused: Boolean = false) {
        listener?.onProgress(CalibrationProgress(share, isPaused))
    }
}

/**
 * Why it failed; null: [work] was done. Whatever goes wrong with one subnet, the others go on. Throws [PackException]: a
 * file that is damaged says nothing of the device, and may be whole the next time.
 */
internal fun failureOf(work: () -> Unit): String? {
    try {
        work()
        return null
    } catch (error: PackException) {
        throw error
    } catch (error: AdaptiveNetException) {
        return error.message.orEmpty()
    } catch (_: OutOfMemoryError) {
        return "there is no memory to load it"
    } catch (error: RuntimeException) {
        return error.message ?: error.javaClass.name
    } catch (error: LinkageError) {
        return error.message ?: error.javaClass.name
    }
}
