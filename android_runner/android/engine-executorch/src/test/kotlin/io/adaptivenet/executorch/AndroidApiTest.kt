package io.adaptivenet.executorch

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import java.io.DataInputStream
import java.io.File

/**
 * Nothing calls the methods that Java 9 gave to `ByteBuffer` and its like: Android has them from API 29 on, and an
 * older one would end the app with a NoSuchMethodError. This module is built after those that it looks at.
 */
class AndroidApiTest {
    private val late = setOf("clear", "flip", "limit", "mark", "position", "reset", "rewind")

    /** The methods that a class calls, as `class.name:type`, from its constant pool (JVM specification, 4.4). */
    private fun calledBy(file: File): List<String> = DataInputStream(file.inputStream().buffered()).use { input ->
        input.skipBytes(8)
        val count = input.readUnsignedShort()
        val texts = HashMap<Int, String>()
        val pairs = HashMap<Int, Pair<Int, Int>>()
        val methods = ArrayList<Int>()
        var at = 1
        while (at < count) {
            when (val tag = input.readUnsignedByte()) {
                1 -> texts[at] = input.readUTF()
                3, 4 -> input.skipBytes(4)
                5, 6 -> {
                    input.skipBytes(8)
                    at++ // these take two places
                }
                7 -> pairs[at] = input.readUnsignedShort() to 0
                8, 16, 19, 20 -> input.skipBytes(2)
                15 -> input.skipBytes(3)
                9, 10, 11, 12, 17, 18 -> {
                    if (tag == 10) methods += at
                    pairs[at] = input.readUnsignedShort() to input.readUnsignedShort()
                }
                else -> error("a constant of kind $tag in $file")
            }
            at++
        }
        methods.map { method ->
            val (owner, named) = pairs.getValue(method)
            val (name, type) = pairs.getValue(named)
            "${texts[pairs.getValue(owner).first]}.${texts[name]}:${texts[type]}"
        }
    }

    @Test
    fun nothingThatAndroidHasOnlyFromApi29OnIsCalled() {
        val modules = listOf("core", "engine-onnxruntime", "engine-executorch").map { File("../$it/target/classes") }
        val called = modules.flatMap { it.walk().filter { file -> file.extension == "class" } }
            .flatMap { file -> calledBy(file).map { "${file.name}: $it" } }
        val duplicate = "java/nio/ByteBuffer.duplicate:()Ljava/nio/ByteBuffer;"
        assertTrue(called.any { duplicate in it }, "nothing was looked at")
        val wrong = called.filter { call ->
            late.any { Regex("java/nio/\\w+Buffer\\.$it:\\(I?\\)Ljava/nio/\\w+Buffer;").containsMatchIn(call) }
        }
        assertEquals(emptyList<String>(), wrong)
    }
}
