package io.adaptivenet.calibration

import io.adaptivenet.DeviceException
import io.adaptivenet.serving.Assembler
import io.adaptivenet.serving.Chain
import io.adaptivenet.serving.Pager
import java.io.Closeable

/**
 * Loads one subnet after the other. Without [limitBytes] the programs of one are loaded at a time; with it, as many as
 * fit. For one thread.
 */
internal class Loading(private val assembler: Assembler, private val limitBytes: Long?) : Closeable {
    private val pager = Pager(emptyList(), limitBytes)

    /** Whether a subnet is one of the pack, and fits alone. */
    fun isPossible(subnet: List<String>): Boolean = subnet.all { it in assembler.pack.graph } &&
        (limitBytes == null || assembler.pieces(subnet).sumOf { it.bytes } <= limitBytes)

    /** It may be run until the next one is loaded. */
    fun load(subnet: List<String>): Chain {
        val pieces = assembler.pieces(subnet)
        pager.trim(pieces.toSet())
        val bytes = pager.missing(pieces).sumOf { it.bytes }
        if (!pager.makeRoom(bytes, pieces.toSet(), null)) throw DeviceException("it is above the limit of memory")
        pager.missing(pieces).forEach { pager.add(it, assembler.load(it)) }
        pager.touch(pieces)
        return assembler.chain(subnet, pager.programs)
    }

    /** Releases everything; more may be loaded. */
    override fun close() {
        pager.close()
    }
}
