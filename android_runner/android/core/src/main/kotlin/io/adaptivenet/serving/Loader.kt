package io.adaptivenet.serving

import io.adaptivenet.AdaptiveNetException
import io.adaptivenet.Budgets
import io.adaptivenet.DeviceException
import io.adaptivenet.Signals
import io.adaptivenet.control.Controller
import io.adaptivenet.profile.ServedPoint
import java.util.Locale
import java.util.concurrent.ArrayBlockingQueue
import java.util.concurrent.Semaphore
import java.util.concurrent.TimeUnit
import java.util.concurrent.locks.ReentrantLock
import kotlin.concurrent.thread
import kotlin.concurrent.withLock

/** What the loader knows, at one moment. */
internal data class Loaded(
    val serving: Target? = null,
    val loading: Target? = null,
    val slowdown: Double = 1.0,
    val bytes: Long = 0,
    val switches: Int = 0,
    val why: String = "nothing was loaded yet",
    val error: String? = null,
)

/**
 * The thread that decides which subnet serves, loads it beside the one that runs, and releases what is no longer
 * needed. The thread that infers never waits for it.
 *
 * [front] is fastest first. The artifacts of all that is loaded are within [limitBytes]; null is no limit, and nothing
 * is kept beside what serves. A subnet that could not be loaded is not tried again for [barNs] nanoseconds, unless it
 * is asked for by name. Throws [DeviceException] for points that are no front.
 */
internal class Loader(
    private val assembler: Assembler,
    front: List<ServedPoint>,
    budgets: Budgets,
    private val limitBytes: Long?,
    private val barNs: Long = TimeUnit.SECONDS.toNanos(30),
) {
    private class Observed(val point: Int, val endedS: Double, val ms: Double)

    private class Bar(val untilNs: Long, val failure: AdaptiveNetException)

    private enum class Step { MORE, WAIT, SETTLED }

    private sealed interface Request {
        class Serve(val target: Target) : Request

        class Decide(val budgets: Budgets) : Request
    }

    val slot = Slot()

    private val front = front.mapIndexed { at, point -> Target(point.subnet, at) }
    private val begunNs = System.nanoTime()

    // Of the loader's thread.
    private val controller = Controller(front.map { it.costs }, budgets)
    private val pager = Pager(front.map { assembler.pieces(it.subnet) }, limitBytes)
    private val bars = HashMap<List<String>, Bar>()
    private var byName: Target? = null
    private var serving: Ready? = null
    private var displaced = listOf<Ready>() // while they run for the last time

    private val inferences = ArrayBlockingQueue<Observed>(255)
    private val pokes = Semaphore(0)

    private val lock = ReentrantLock() // guards everything below
    private val settledChanged = lock.newCondition()
    private var closing = false
    private var request: Request? = null
    private val sensed = ArrayList<Signals>()
    private var asked = 1L // counts of requests
    private var taken = 0L
    private var settled = 0L
    private var outcome: AdaptiveNetException? = null
    private var loaded = Loaded()

    // A priority of 4 is nice 10 on Android: the loader yields to others, but on a busy device it still gets on.
    private val thread = thread(name = "adaptivenet-loader", isDaemon = true, priority = 4) { work() }

    /** This subnet serves from now on, whatever the budget. Returns at once. */
    fun want(subnet: List<String>) {
        assembler.pack.graph.requireSubnet(subnet)
        ask(Request.Serve(front.firstOrNull { it.subnet == subnet } ?: Target(subnet, null)))
    }

    /** The controller decides from now on. Returns at once. */
    fun want(budgets: Budgets): Unit = ask(Request.Decide(budgets))

    private fun ask(what: Request) {
        lock.withLock {
            request = what
            asked++
        }
        pokes.release()
    }

    /** What sensors say now, for the controller. Returns at once. */
    fun sense(signals: Signals) {
        lock.withLock { sensed += signals }
        pokes.release()
    }

    val state: Loaded get() = lock.withLock { loaded }

    /**
     * Waits until what was asked for serves, or another point in its place; false when that takes longer. Throws the
     * error of loading when what was asked for by name cannot be loaded, or when nothing serves at all.
     */
    fun await(timeoutMs: Long): Boolean = lock.withLock {
        val wanted = asked
        var leftNs = TimeUnit.MILLISECONDS.toNanos(timeoutMs)
        while (settled < wanted) {
            check(!closing) { "the model is closed" }
            if (leftNs <= 0) return false
            leftNs = settledChanged.awaitNanos(leftNs)
        }
        outcome?.let { throw it }
        true
    }

    /** From the thread that infers: what [slot] gave has run, in [ms]; null where it failed. Never waits for a load. */
    fun ran(ready: Ready, ms: Double?) {
        val isGivenUp = slot.giveBack(ready)
        val point = ready.target.point
        val isTold = point != null && ms != null && inferences.offer(Observed(point, nowS(), ms))
        if (isGivenUp || isTold) pokes.release()
    }

    /** Throws [IllegalStateException] on the loader's own thread, which cannot wait for itself. */
    fun requireOtherThread() {
        check(Thread.currentThread() !== thread) { "a model cannot be closed by what watches it load" }
    }

    /** Ends the thread, after the load that is on, and releases everything. No inference may run. */
    fun close() {
        lock.withLock {
            closing = true
            settledChanged.signalAll()
        }
        pokes.release()
        var isInterrupted = false
        while (thread.isAlive) {
            try {
                thread.join()
            } catch (_: InterruptedException) { // that is no reason to leave the thread: it uses what is released next
                isInterrupted = true
            }
        }
        if (isInterrupted) Thread.currentThread().interrupt()
    }

    private fun nowS(): Double = (System.nanoTime() - begunNs) / 1e9

    // All of the following on the loader's thread.

    private fun work() {
        try {
            page()
        } finally { // also of an error that nobody reckons with: who waits must not wait for ever
            lock.withLock {
                closing = true
                settledChanged.signalAll()
            }
            pager.close()
        }
    }

    private fun page() {
        while (true) {
            pokes.drainPermits() // before looking, so that what comes meanwhile is looked at next
            val isClosing = lock.withLock {
                takeRequests()
                closing
            }
            if (isClosing) break
            releaseGivenUp()
            lookAtInferences()
            val step = step()
            if (step == Step.SETTLED) settle()
            if (step != Step.MORE) pokes.acquireUninterruptibly()
        }
    }

    private fun takeRequests() {
        sensed.forEach { controller.sense(nowS(), it) }
        sensed.clear()
        taken = asked
        when (val what = request) {
            is Request.Serve -> {
                byName = what.target
                bars.remove(what.target.subnet)
            }
            is Request.Decide -> {
                byName = null
                controller.setBudgets(nowS(), what.budgets)
            }
            null -> Unit
        }
        request = null
    }

    private fun releaseGivenUp() {
        while (true) {
            val ended = slot.givenUp() ?: return
            displaced = displaced.filter { it !== ended }
        }
    }

    private fun lookAtInferences() {
        while (true) {
            val ran = inferences.poll() ?: break
            if (byName == null) controller.observe(ran.endedS, ran.ms, ran.point)
        }
        note { it }
    }

    /** What may serve, the best first. */
    private fun candidates(): List<Target> = byName?.let { listOf(it) } ?: (controller.point downTo 0).map { front[it] }

    /** One piece of work, if there is any. */
    private fun step(): Step {
        val target = candidates().firstOrNull { !isBarred(it) } ?: return Step.SETTLED
        return if (target.subnet != serving?.target?.subnet) advance(target) else loadAhead()
    }

    /** One step on the way to a target: the next piece that is missing, or the swap. */
    private fun advance(target: Target): Step {
        val pieces = assembler.pieces(target.subnet)
        val missing = pager.missing(pieces)
        note { it.copy(loading = target) }
        if (missing.isEmpty()) {
            attempt(target) { serve(target, pieces) }
            return Step.MORE
        }
        val bytes = missing.sumOf { it.bytes }
        if (!pager.makeRoom(bytes, inUse() + pieces, target.point)) {
            // What runs for the last time takes memory that is free in a moment.
            if (displaced.isNotEmpty()) return Step.WAIT
            bar(target, DeviceException(noRoom(bytes)))
            return Step.MORE
        }
        attempt(target) { pager.add(missing.first(), assembler.load(missing.first())) }
        return Step.MORE
    }

    private fun noRoom(bytes: Long): String =
        "a subnet needs ${inMb(bytes)} beside the ${inMb(pager.bytes)} that are loaded; " +
            "the limit is ${inMb(limitBytes ?: 0)}"

    private fun inMb(bytes: Long) = String.format(Locale.ROOT, "%.1f MB", bytes / 1e6)

    private fun serve(target: Target, pieces: List<Piece>) {
        val ready = Ready(target, pieces, assembler.chain(target.subnet, pager.programs))
        val isFirst = serving == null
        val old = slot.put(ready)
        serving?.let { if (old == null) displaced = displaced + it }
        serving = ready
        pager.touch(pieces)
        note { it.copy(serving = target, loading = null, switches = it.switches + if (isFirst) 0 else 1) }
    }

    private fun loadAhead(): Step {
        val point = serving?.target?.point ?: return Step.SETTLED
        val ahead = front[pager.ahead(point) { isBarred(front[it]) } ?: return Step.SETTLED]
        settle()
        attempt(ahead) {
            val piece = pager.missing(assembler.pieces(ahead.subnet)).first()
            pager.add(piece, assembler.load(piece))
        }
        return Step.MORE
    }

    /** Whatever goes wrong, what serves must serve on. */
    private fun attempt(target: Target, work: () -> Unit) {
        try {
            work()
        } catch (error: AdaptiveNetException) {
            bar(target, error)
        } catch (error: OutOfMemoryError) {
            bar(target, DeviceException("there is no memory to load a subnet; give a lower memory limit", error))
        } catch (error: Exception) {
            bar(target, DeviceException("a subnet does not load: ${error.message ?: error.javaClass.name}", error))
        } catch (error: LinkageError) {
            bar(target, DeviceException("a subnet does not load: ${error.message ?: error.javaClass.name}", error))
        }
        note { it }
    }

    private fun isBarred(target: Target): Boolean = bars[target.subnet]?.let { System.nanoTime() < it.untilNs } ?: false

    private fun bar(target: Target, failure: AdaptiveNetException) {
        bars[target.subnet] = Bar(System.nanoTime() + barNs, failure)
        note { it.copy(loading = null, error = failure.message) }
    }

    private fun inUse(): Set<Piece> = (displaced + listOfNotNull(serving)).flatMap { it.pieces }.toSet()

    /** What was asked for when that was last looked at serves, or cannot be loaded; by now it may be something else. */
    private fun settle() {
        pager.trim(inUse())
        val wanted = candidates()
        val isServed = serving != null && (byName == null || byName?.subnet == serving?.target?.subnet)
        note { it.copy(loading = null, why = why()) }
        lock.withLock {
            outcome = if (isServed) null else bars[wanted.first().subnet]?.failure
            settled = taken
            settledChanged.signalAll()
        }
    }

    private fun why(): String {
        val serves = serving?.target ?: return "nothing was loaded yet"
        val name = byName
        return when {
            name != null && name.subnet != serves.subnet -> "what was asked for cannot be loaded"
            name != null -> "it was asked for"
            controller.point == serves.point -> controller.decision.why
            else -> "the controller's choice cannot be loaded"
        }
    }

    private fun note(change: (Loaded) -> Loaded) {
        val (slowdown, bytes) = controller.slowdown to pager.bytes
        lock.withLock { loaded = change(loaded).copy(slowdown = slowdown, bytes = bytes) }
    }
}
