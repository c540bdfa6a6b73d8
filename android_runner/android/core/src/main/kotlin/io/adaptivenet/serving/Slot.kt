package io.adaptivenet.serving

import java.util.concurrent.ConcurrentLinkedQueue
import java.util.concurrent.atomic.AtomicReference

/** A subnet to serve with, and its index in the front; null for one that was asked for by name and is no point. */
internal data class Target(val subnet: List<String>, val point: Int?)

/** A target with everything that it takes to run it. */
internal class Ready(val target: Target, val pieces: List<Piece>, val chain: Chain)

/**
 * Where the subnet that runs next lies. The loader puts another one there, the thread that infers takes it and gives it
 * back: neither ever waits for the other, and between two inferences the newest one is taken.
 */
internal class Slot {
    private val lies = AtomicReference<Ready?>()
    private val ended = ConcurrentLinkedQueue<Ready>()

    /**
     * For the loader. Puts a subnet there; returns the one that lay there, or null while that one runs: it is then
     * among the [givenUp] when its inference has ended.
     */
    fun put(ready: Ready): Ready? = lies.getAndSet(ready)

    /** For the loader: one of those that were displaced while they ran, or null. */
    fun givenUp(): Ready? = ended.poll()

    /** For one thread at a time: the subnet to run, or null when none has ever been put. It must be given back. */
    fun take(): Ready? = lies.getAndSet(null)

    /** Whether it was given up: another one has come meanwhile. */
    fun giveBack(ready: Ready): Boolean = !lies.compareAndSet(null, ready) && ended.add(ready)
}
