package io.adaptivenet.calibration

import io.adaptivenet.DeviceException
import io.adaptivenet.json.Json
import io.adaptivenet.json.JsonException
import io.adaptivenet.json.canonicalJson
import io.adaptivenet.json.fieldsOf
import io.adaptivenet.json.number
import io.adaptivenet.json.parseJson
import io.adaptivenet.json.text
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
 * What a calibration has measured so far, so that another process goes on where this one ends. A file of JSON lines:
 * the first says what is measured, each other one is a visit. A visit is on the disk when [visited] returns, and a line
 * that the end of a process has cut off is not there. One job at a time has it open.
 */
internal class Journal private constructor(private val file: File, private val channel: FileChannel, subnets: Int) :
    Closeable {
    /** Of all processes together. */
    val timings = Timings(subnets)

    /** What all visits together have taken, loading counted in. */
    var seconds = 0.0
        private set

    fun visited(subnet: Int, round: Int, ms: List<Double>, seconds: Double) {
        note(subnet, round, "ms", Json.Items(ms.map { Json.Decimal(it) }), seconds)
    }

    fun failed(subnet: Int, round: Int, message: String, seconds: Double) {
        note(subnet, round, "failed", Json.Text(message), seconds)
    }

    private fun note(subnet: Int, round: Int, what: String, value: Json, seconds: Double) {
        val fields = mapOf(
            "subnet" to Json.Whole(subnet.toLong()),
            "round" to Json.Whole(round.toLong()),
            "seconds" to Json.Decimal(seconds),
            what to value,
        )
        val entry = fieldsOf(fields)
        append(entry)
        check(take(entry)) { "an entry that cannot be read again" }
    }

    private fun append(entry: Json) {
        try {
            val line = ByteBuffer.wrap("${canonicalJson(entry)}\n".toByteArray())
            while (line.hasRemaining()) channel.write(line)
            channel.force(false)
        } catch (error: IOException) {
            throw DeviceException("the journal $file cannot be written: ${error.message}", error)
        }
    }

    /** Whether it is an entry of this journal. */
    private fun take(value: Json): Boolean {
        val entry = value as? Json.Fields ?: return false
        val subnet = (entry["subnet"] as? Json.Whole)?.value?.toInt() ?: return false
        val round = (entry["round"] as? Json.Whole)?.value?.toInt() ?: return false
        val took = entry["seconds"].number ?: return false
        val ms = (entry["ms"] as? Json.Items)?.values?.map { it.number?.takeIf { ms -> ms > 0 } ?: return false }
        val message = entry["failed"].text
        when {
            !timings.isSubnet(subnet) -> return false
            ms != null && ms.isNotEmpty() -> timings.add(subnet, round, ms)
            message != null -> timings.fail(subnet, message)
            else -> return false
        }
        seconds += took
        return true
    }

    /** Takes what an earlier process has noted under the same [header], and cuts off what is no whole line. */
    private fun resume(header: Json) {
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
         * The journal in [file] where it was begun with [header], else a new one, for so many [subnets]. Throws
         * [DeviceException] where it cannot be written, or another job has it open. May block.
         */
        fun open(file: File, header: Json, subnets: Int): Journal {
            try {
                Files.createDirectories(file.absoluteFile.parentFile.toPath())
                val channel = FileChannel.open(file.toPath(), CREATE, READ, WRITE)
                try {
                    if (!isMine(channel)) throw DeviceException("another job calibrates already: it has $file open")
                    return Journal(file, channel, subnets).also { it.resume(header) }
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
