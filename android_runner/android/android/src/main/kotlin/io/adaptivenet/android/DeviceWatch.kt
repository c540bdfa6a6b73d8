package io.adaptivenet.android

import io.adaptivenet.AdaptiveModel
import io.adaptivenet.Signals
import java.io.Closeable
import java.lang.ref.WeakReference
import java.util.concurrent.ScheduledThreadPoolExecutor
import java.util.concurrent.TimeUnit
import java.util.concurrent.atomic.AtomicBoolean

/**
 * Tells somebody, such as a model, what the device says of itself: every [periodMs] milliseconds, and whenever [look] is
 * called, on a thread of its own. It ends when it is closed, or when [tell] says that nobody listens any more: it returns
 * false. [whenEnded] is called then, once.
 */
internal class DeviceWatch(
    private val sources: List<SignalSource>,
    periodMs: Long,
    private val whenEnded: () -> Unit,
    private val tell: (Signals) -> Boolean,
) : Closeable {
    private val isEnded = AtomicBoolean()
    private val thread = ScheduledThreadPoolExecutor(1) { work ->
        Thread(work, "adaptivenet-signals").apply {
            isDaemon = true
            priority = Thread.MIN_PRIORITY
        }
    }.apply {
        setContinueExistingPeriodicTasksAfterShutdownPolicy(false)
        setExecuteExistingDelayedTasksAfterShutdownPolicy(false)
        scheduleAtFixedRate(::readAndTell, 0, periodMs, TimeUnit.MILLISECONDS)
    }

    /** Looks at once, for news that should not wait. Returns at once. */
    fun look() {
        if (!isEnded.get()) {
            try {
                thread.execute(::readAndTell)
            } catch (_: java.util.concurrent.RejectedExecutionException) {
                return // it has just ended
            }
        }
    }

    private fun readAndTell() {
        if (isEnded.get()) return
        // A source that fails says nothing: what the system answers must not end the app.
        val said = sources.mapNotNull { runCatching { it.read() }.getOrNull() }
        val isHeard = try {
            tell(together(said))
        } catch (_: IllegalStateException) { // a model that was closed
            false
        }
        if (!isHeard) close()
    }

    /** Says nothing more. A second time it does nothing. */
    override fun close() {
        if (isEnded.getAndSet(true)) return
        thread.shutdown()
        whenEnded()
    }

    companion object {
        /** As often as the controller wants to hear of a sensor, and the battery hardly notices. */
        const val PERIOD_MS = 5_000L

        /** Tells a model until that is closed or nothing refers to it any more. */
        fun telling(model: AdaptiveModel): (Signals) -> Boolean {
            val weak = WeakReference(model)
            return { signals -> weak.get()?.observe(signals) != null }
        }
    }
}
