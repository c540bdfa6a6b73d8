package io.adaptivenet.serving

import io.adaptivenet.engine.Feature
import io.adaptivenet.engine.Program
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertNull
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test

/** What is kept loaded, what goes first, and that a program which goes is released. */
class PagerTest {
    private val released = ArrayList<String>()

    private fun piece(name: String) = Piece(name, listOf(name), 10)

    private inner class Nothing(private val name: String) : Program {
        override fun run(inputs: List<Feature>, output: Feature?): Feature = error("it is never run")

        override fun close() {
            released += name
        }
    }

    /** Four points that share "z"; each has a piece of its own. */
    private val front = listOf("a", "b", "c", "d").map { listOf(piece(it), piece("z")) }

    private fun Pager.add(pieces: List<Piece>) {
        missing(pieces).forEach { add(it, Nothing(it.name)) }
        touch(pieces)
    }

    private fun assertHeld(pager: Pager, vararg names: String) = assertEquals(names.toSet(), pager.programs.keys)

    @Test
    fun withoutALimitKeepsWhatRunsAlone() {
        val pager = Pager(front, null)
        pager.add(front[0])
        pager.add(front[1])
        assertTrue(pager.makeRoom(1_000_000_000, setOf(), 1))
        assertHeld(pager, "a", "b", "z")
        pager.trim(front[1].toSet())
        assertHeld(pager, "b", "z")
        assertEquals(20, pager.bytes)
        assertEquals(listOf("a"), released)
    }

    @Test
    fun releasesWhatIsFurthestOnTheFront() {
        val pager = Pager(front, 50)
        front.forEach { pager.add(it) }
        pager.trim(setOf())
        assertEquals(50, pager.bytes)
        assertTrue(pager.makeRoom(10, front[3].toSet(), 3))
        assertHeld(pager, "b", "c", "d", "z")
        assertTrue(pager.makeRoom(30, front[3].toSet(), 3))
        assertHeld(pager, "d", "z")
        assertEquals(listOf("a", "b", "c"), released)
    }

    @Test
    fun ofEquallyNearOnesReleasesWhatWasNeededLongAgo() {
        val pager = Pager(front, 40)
        for (point in listOf(1, 2, 0)) pager.add(front[point])
        pager.touch(front[0])
        assertTrue(pager.makeRoom(10, front[1].toSet(), 1))
        assertHeld(pager, "a", "b", "z")
    }

    @Test
    fun neverReleasesWhatIsKept() {
        val pager = Pager(front, 40)
        pager.add(front[0])
        pager.add(front[1])
        assertFalse(pager.makeRoom(30, (front[0] + front[1]).toSet(), 1))
        assertHeld(pager, "a", "b", "z")
        assertFalse(pager.makeRoom(41, setOf(piece("a")), 1))
        assertHeld(pager, "a")
        pager.close()
        assertHeld(pager)
        assertEquals(setOf("a", "b", "z"), released.toSet())
    }

    @Test
    fun loadsANeighbourAheadWhereThereIsRoom() {
        val pager = Pager(front, 40)
        pager.add(front[1])
        assertEquals(2, pager.ahead(1) { false })
        assertEquals(0, pager.ahead(1) { it == 2 })
        pager.add(front[2])
        assertEquals(0, pager.ahead(1) { false })
        pager.add(front[0])
        assertNull(pager.ahead(1) { false })
        assertNull(pager.ahead(2) { false }, "there is no room for the other neighbour")
        val unlimited = Pager(front, null)
        unlimited.add(front[1])
        assertNull(unlimited.ahead(1) { false })
    }
}
