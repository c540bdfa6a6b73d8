package io.adaptivenet.android

import android.content.Context
import android.os.Build
import android.os.PerformanceHintManager
import android.os.Process
import io.adaptivenet.Inference
import java.io.Closeable

private const val HAS_HINTS = 31 // Android 12

/** A session of Android's `PerformanceHintManager`, in nanoseconds. */
internal interface HintSession {
    fun target(ns: Long)

    fun report(ns: Long)

    fun close()
}

/**
 * Tells Android how long inferences may take and do take, so that it sets clocks and cores by that. For the thread that opened
 * it, which is the one that infers. Where the device cannot be told, it does nothing.
 *
 * ```kotlin
 * PerformanceHint.open(context, targetMs = 12.0).use { hint ->
 *     while (camera.isOn) hint.ran(model.run(input, output))
 * }
 * ```
 */
public class PerformanceHint internal constructor(private val session: HintSession?) : Closeable {
    private var isClosed = false

    /** Whether Android listens. */
    public val isHeard: Boolean get() = session != null && !isClosed

    /**
     * What an inference may take from now on, in milliseconds: after `setBudget`. Throws IllegalArgumentException unless [ms]
     * is a positive number.
     */
    public fun setTarget(ms: Double) {
        if (isHeard) session?.target(inNs(ms))
    }

    /** An inference has ended: what `run` returned. */
    public fun ran(inference: Inference): Unit = ran(inference.ms)

    /** An inference has taken [ms] milliseconds. */
    public fun ran(ms: Double) {
        val ns = (ms * NS_A_MS).toLong()
        if (isHeard && ns > 0) session?.report(ns)
    }

    /** Tells nothing more. A second time it does nothing. */
    override fun close() {
        if (!isClosed) session?.close()
        isClosed = true
    }

    public companion object {
        private const val NS_A_MS = 1e6

        /**
         * For the calling thread, whose inferences may take [targetMs] milliseconds. Close it on that thread when that
         * infers no more. Throws IllegalArgumentException unless [targetMs] is a
         * positive number.
         */
        @JvmStatic
        public fun open(context: Context, targetMs: Double): PerformanceHint {
            val target = inNs(targetMs)
            return PerformanceHint(if (Build.VERSION.SDK_INT >= HAS_HINTS) sessionOf(context, target) else null)
        }

        private fun sessionOf(context: Context, targetNs: Long): HintSession? {
            val hints = context.getSystemService(PerformanceHintManager::class.java)
            val session = hints?.createHintSession(intArrayOf(Process.myTid()), targetNs) ?: return null
            return object : HintSession {
                override fun target(ns: Long) = session.updateTargetWorkDuration(ns)

                override fun report(ns: Long) = session.reportActualWorkDuration(ns)

                override fun close() = session.close()
            }
        }

        private fun inNs(ms: Double): Long {
            require(ms.isFinite() && ms > 0) { "an inference must be given some milliseconds: got $ms" }
            return (ms * NS_A_MS).toLong().coerceAtLeast(1)
        }
    }
}
