package io.adaptivenet.pack

import io.adaptivenet.json.quote
import java.io.File
import java.io.IOException
import java.nio.ByteBuffer
import java.nio.channels.FileChannel
import java.nio.file.Files
import java.nio.file.LinkOption.NOFOLLOW_LINKS
import java.nio.file.NoSuchFileException
import java.nio.file.Path
import java.nio.file.StandardOpenOption.READ
import java.nio.file.attribute.BasicFileAttributes

/** What is wrong with a file, for the end of a sentence that begins with what it is. */
internal class FileProblem(message: String) : IOException(message)

/** Whether there is a folder, and not a link to one. */
internal fun isFolder(path: File): Boolean = Files.isDirectory(path.toPath(), NOFOLLOW_LINKS)

/** The bytes of a regular file of at most [limit] bytes. Throws [FileProblem]. */
internal fun readFile(file: File, limit: Int): ByteArray = opened(file) { channel ->
    // The bytes are counted as they come: the size of the file may have changed since it was asked for.
    if (channel.size() > limit) throw FileProblem("${quote(file.path)} has more than $limit bytes")
    val buffer = ByteBuffer.allocate(channel.size().toInt() + 1)
    while (buffer.hasRemaining() && channel.read(buffer) >= 0) continue
    val grows = buffer.position() > limit || !buffer.hasRemaining()
    if (grows) throw FileProblem("${quote(file.path)} grows while it is read")
    buffer.array().copyOf(buffer.position())
}

/** A regular file, mapped to be read. Throws [FileProblem]. */
internal fun mapFile(file: File): ByteBuffer = opened(file) { channel ->
    val size = channel.size()
    if (size > Int.MAX_VALUE) throw FileProblem("${quote(file.path)} has $size bytes, too many to map")
    channel.map(FileChannel.MapMode.READ_ONLY, 0, size)
}

/** What [use] makes of a regular file that is no link; opening a pipe would wait for somebody to write. */
private fun <T> opened(file: File, use: (FileChannel) -> T): T {
    val path: Path = file.toPath()
    try {
        val attributes = Files.readAttributes(path, BasicFileAttributes::class.java, NOFOLLOW_LINKS)
        if (attributes.isSymbolicLink) throw FileProblem("${quote(file.path)} is a symbolic link")
        if (!attributes.isRegularFile) throw FileProblem("${quote(file.path)} is not a regular file")
        return FileChannel.open(path, setOf(READ, NOFOLLOW_LINKS)).use(use)
    } catch (error: FileProblem) {
        throw error
    } catch (_: NoSuchFileException) {
        throw FileProblem("${quote(file.path)} is missing")
    } catch (error: IOException) {
        throw FileProblem("${quote(file.path)} cannot be read: ${error.message}")
    }
}
