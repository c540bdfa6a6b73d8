package io.adaptivenet.serving

import io.adaptivenet.engine.Program
import java.io.Closeable
import kotlin.math.abs

/**
 * What is loaded, what it takes, and what goes first when memory runs short. For the loader's thread alone.
 *
 * [front] has the pieces of each point, fastest first. Without a limit nothing is kept beside what runs; with one,
 * everything is for which there is room.
 */
internal class Pager(private val front: List<List<Piece>>, private val limitBytes: Long?) : Closeable {
    private class Held(val piece: Piece, val program: Program, var needed: Long)

    private val held = HashMap<String, Held>()
    private var touches = 0L

    /** Of all that is loaded. */
    val bytes: Long get() = held.values.sumOf { it.piece.bytes }

    /** Of all that is loaded, by the names of the pieces. */
    val programs: Map<String, Program> get() = held.mapValues { it.value.program }

    /** Those that are not loaded, in their order. */
    fun missing(pieces: List<Piece>): List<Piece> = pieces.filter { it.name !in held }

    fun add(piece: Piece, program: Program) {
        held[piece.name] = Held(piece, program, touches)
    }

    /** They are needed now. */
    fun touch(pieces: List<Piece>) {
        touches++
        pieces.forEach { held.getValue(it.name).needed = touches }
    }

    /**
     * Releases, of what is not in [keep], the least useful until [more] bytes fit; false when they do not. Useful is
     * what a point near [around] has, then what was needed last.
     */
    fun makeRoom(more: Long, keep: Set<Piece>, around: Int?): Boolean {
        while (!fits(more)) {
            val worst = held.values.filter { it.piece !in keep }
                .maxWithOrNull(compareBy<Held> { distance(it.piece, around) }.thenBy { -it.needed })
            release(worst ?: return false)
        }
        return true
    }

    /** To be called when nothing is to be loaded: without a limit, everything is released that is not in [keep]. */
    fun trim(keep: Set<Piece>) {
        if (limitBytes == null) held.values.filter { it.piece !in keep }.forEach { release(it) }
    }

    /** A neighbour of [point] whose missing pieces fit beside everything that is loaded, the slower one first. */
    fun ahead(point: Int, isBarred: (Int) -> Boolean): Int? {
        if (limitBytes == null) return null
        return listOf(point + 1, point - 1).filter { it in front.indices && !isBarred(it) }.firstOrNull { neighbour ->
            val missing = missing(front[neighbour])
            missing.isNotEmpty() && fits(missing.sumOf { it.bytes })
        }
    }

    private fun fits(more: Long): Boolean = limitBytes == null || bytes + more <= limitBytes

    private fun distance(piece: Piece, around: Int?): Int {
        val points = front.indices.filter { piece in front[it] }
        return points.minOfOrNull { if (around == null) front.size else abs(it - around) } ?: front.size
    }

    private fun release(each: Held) {
        held.remove(each.piece.name)
        each.program.close()
    }

    /** Releases everything. */
    override fun close() {
        held.values.toList().forEach { release(it) }
    }
}
