package io.adaptivenet.graph

import io.adaptivenet.GraphException
import io.adaptivenet.json.quote

/**
 * An edge of the search space, from the cut [start] to the cut [end]. [isOriginal]: a block of the pretrained network
 * in float32; [isNetwork]: a whole network as one program; [reads]: the cuts that it takes besides its start, ascending,
 * each below it.
 */
internal data class Block(
    val name: String,
    val start: Int,
    val end: Int,
    val isOriginal: Boolean = false,
    val isNetwork: Boolean = false,
    val reads: List<Int> = emptyList(),
)

/**
 * The search space: cuts, and blocks from one cut to a later one. A subnet is a path from the first cut to the last,
 * given as the names of its blocks.
 *
 * Throws [GraphException] unless: there are at least 2 cuts; every block goes forward and ends at a cut that exists; no
 * name comes twice; exactly one original block leads from each cut to the next, and none further; taps are cuts before the last,
 * ascending and different; what a block reads besides its start is before that, ascending and different; no block jumps over
 * a tap or what another reads so, but from the first cut to the last; so does every network.
 */
internal class BlockGraph(val cuts: List<TensorType>, blocks: List<Block>, val taps: List<Int>) {
    /** The index of the last cut. */
    val end: Int = cuts.size - 1

    /** The cuts whose features are kept for later blocks, ascending: the taps, and what blocks read besides their start. */
    private val kept: List<Int> = (taps + blocks.flatMap { it.reads }).toSortedSet().toList()

    /** The original network. */
    val oracle: List<String>

    private val blocks: Map<String, Block>

    /** Those that are not of the original network. */
    val alternatives: List<Block> get() = blocks.values.filter { !it.isOriginal }

    /** By cut, the blocks that lead on from there. */
    val leaving: List<List<Block>>

    init {
        if (cuts.size < 2) throw GraphException("there are ${cuts.size} cuts; there must be 2")
        requireTaps()
        val byName = LinkedHashMap<String, Block>()
        val originals = arrayOfNulls<String>(end)
        for (block in blocks) {
            require(block)
            if (block.isOriginal) {
                originals[block.start]?.let {
                    throw GraphException(
                        "block ${quote(block.name)} and ${quote(it)} are both original from cut ${block.start}",
                    )
                }
                originals[block.start] = block.name
            }
            if (byName.put(block.name, block) != null) throw GraphException("the block name ${quote(block.name)} twice")
        }
        oracle = originals.mapIndexed { at, name ->
            name ?: throw GraphException("there is no original block from cut $at to the next")
        }
        this.blocks = byName
        leaving = List(end) { at -> blocks.filter { it.start == at } }
    }

    private fun requireTaps() {
        taps.forEachIndexed { at, tap ->
            if (tap < 0 || tap >= end) throw GraphException("tap $tap is no cut before the last, 0 to ${end - 1}")
            if (at > 0 && tap <= taps[at - 1]) throw GraphException("taps must be ascending and different")
        }
    }

    private fun require(block: Block) {
        val what = "block ${quote(block.name)}"
        val (_, start, last) = block
        if (start < 0 || start >= last) {
            throw GraphException("$what goes from cut $start to cut $last; it must go forward")
        }
        if (last > end) throw GraphException("$what ends at cut $last; the last cut is $end")
        val fromEndToEnd = start == 0 && last == end
        if (block.isNetwork && !fromEndToEnd) {
            throw GraphException(
                "$what is a whole network and must go from the first cut to the last: " +
                    "it goes from cut $start to cut $last",
            )
        }
        block.reads.forEachIndexed { at, cut ->
            if (cut <= (block.reads.getOrNull(at - 1) ?: -1) || cut >= start) {
                throw GraphException(
                    "$what starts at cut $start and reads cut $cut besides: " +
                        "such cuts must be ascending, and before its start",
                )
            }
        }
        kept.firstOrNull { it in (start + 1) until last && !fromEndToEnd }?.let {
            val which = if (it in taps) "a tap" else "one that other blocks read"
            throw GraphException("$what jumps over cut $it, which is $which")
        }
        if (block.isOriginal && last != start + 1) throw GraphException("$what is original and must span one cut")
    }

    operator fun contains(name: String): Boolean = name in blocks

    /** Throws [GraphException] where there is no such block. */
    operator fun get(name: String): Block = blocks[name]
        ?: throw GraphException("there is no block ${quote(name)} in this graph of ${blocks.size} blocks")

    /**
     * The cuts whose features a block takes: its start, then, ascending, what it reads besides and, for a head, the taps.
     * A head ends at the last cut and does not start at the first.
     */
    fun reads(block: Block): List<Int> {
        val read = if (block.end != end || block.start == 0) emptyList() else taps
        return listOf(block.start) + ((block.reads + read).toSortedSet() - block.start)
    }

    /** Throws [GraphException] unless [names] are a path from the first cut to the last. */
    fun requireSubnet(names: List<String>) {
        var at = 0
        for (name in names) {
            val next = get(name)
            if (next.start != at) {
                throw GraphException(
                    "not a subnet: block ${quote(name)} starts at cut ${next.start}, but the path is at cut $at",
                )
            }
            at = next.end
        }
        if (at != end) throw GraphException("not a subnet: the path ends at cut $at, the last cut is $end")
    }
}
