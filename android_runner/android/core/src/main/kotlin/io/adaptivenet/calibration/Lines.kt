package io.adaptivenet.calibration

import io.adaptivenet.DeviceException
import io.adaptivenet.json.Json
import io.adaptivenet.json.JsonException
import io.adaptivenet.json.canonicalJson
import io.adaptivenet.json.parseJson
import java.io.Closeable
import java.io.File
import java.io.IOException
import java.nio.ByteBuffer
import java.nio.channels.FileChannel
import java.nio.channels.OverlappingFileLockException
import java.nio.file.Files
import java.nio.file.StandardOpenOption.CREATE
import java.nio.file.StandardOpenOption.READ
import java.nio.file.StandardOpenOption.WRITE

private const val LIMIT = 64L shl 20 // bytes
private const val LINE_END = '\n'.code.toByte()

/**
 * A file of JSON lines that another process goes on with: the first says what it is of. A line is on the disk when
 * [append] returns, and one that the end of a process has cut off is not there. One job at a time has it open.
 */
internal class Lines private constructor(private val file: File, private val channel: FileChannel) : Closeable {
    fun append(entry: Json) {
        try {
            val line = ByteBuffer.wrap("${canonicalJson(entry)}\n".toByteArray())
            while (line.hasRemaining()) channel.write(line)
            channel.force(false)
        } catch (error: IOException) {
            throw DeviceException("the journal $file cannot be written: ${error.message}", error)
        }
    }

    /** Takes what an earlier process has noted under the same [header], and cuts off what is no whole entry. */
    private fun resume(header: Json, take: (Json) -> Boolean) {
        val bytes = ByteBuffer.allocate(channel.size().coerceAtMost(LIMIT).toInt())
        while (bytes.hasRemaining() && channel.read(bytes) >= 0) continue
        var begin = 0
        for (at in 0 until bytes.position()) {
            if (bytes[at] != LINE_END) continue
            val line = parsed(bytes.array().copyOfRange(begin, at)) ?: break
            if (!(if (begin == 0) line == header else take(line))) break
            begin = at + 1
        }
        channel.truncate(begin.toLong())
        channel.position(begin.toLong())
        if (begin == 0) append(header)
    }

    private fun parsed(line: ByteArray): Json? = try {
        parseJson(line)
    } catch (_: JsonException) {
        null
    }

    /** There is nothing to go on with any more. */
    fun delete() {
        file.delete()
    }

    override fun close() {
        channel.close()
    }

    companion object {
        /**
         * The lines of [file] where it was begun with [header], else none. Each is given to [take], which says whether
         * it is an entry. Throws [DeviceException] where it cannot be written, or another job has it open. May block.
         */
        fun open(file: File, header: Json, take: (Json) -> Boolean): Lines {
            try {
                Files.createDirectories(file.absoluteFile.parentFile.toPath())
                val channel = FileChannel.open(file.toPath(), CREATE, READ, WRITE)
                try {
                    if (!isMine(channel)) throw DeviceException("another job calibrates already: it has $file open")
                    return Lines(file, channel).also { it.resume(header, take) }
                } catch (error: Throwable) {
                    channel.close()
                    throw error
                }
            } catch (error: IOException) {
                throw DeviceException("the journal $file cannot be written: ${error.message}", error)
            }
        }

        private fun isMine(channel: FileChannel): Boolean = try {
            channel.tryLock() != null // until it is closed
        } catch (_: OverlappingFileLockException) { // by this process
            false
        }
    }
}
