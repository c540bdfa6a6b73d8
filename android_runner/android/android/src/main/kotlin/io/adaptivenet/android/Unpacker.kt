package io.adaptivenet.android

import io.adaptivenet.DeviceException
import io.adaptivenet.PackException
import io.adaptivenet.bundle.BundleIndex
import io.adaptivenet.bundle.BundledFile
import java.io.File
import java.io.FileOutputStream
import java.io.IOException
import java.io.InputStream
import java.nio.channels.FileChannel
import java.nio.file.Files
import java.nio.file.StandardCopyOption.ATOMIC_MOVE
import java.nio.file.StandardOpenOption.CREATE
import java.nio.file.StandardOpenOption.READ
import java.nio.file.StandardOpenOption.WRITE
import java.security.MessageDigest
import java.util.Locale

private const val KEPT_FREE = 16L shl 20 // bytes: an app that fills the disk is ended, and others with it
private const val CHUNK = 1 shl 16

/** A bundle that lies in a folder, whole. */
internal class Unpacked(val folder: File, val index: BundleIndex)

/**
 * Unpacks bundles to folders of their own within [home], each once: `NAME/DIGEST`, where the digest is that of the index. A
 * folder has its final name only when it is whole. [room] says how many bytes may be written to a folder's disk.
 */
internal class Unpacker(private val home: File, private val room: (File) -> Long = File::getUsableSpace) {
    /**
     * The bundle in [files], unpacked now or before; others of its name are removed then. Throws [PackException] for a bundle
     * that is damaged, [DeviceException] where there is no room or the disk cannot be written. Blocks.
     */
    fun unpack(files: BundleFiles): Unpacked {
        val bytes = indexOf(files)
        val index = BundleIndex.parse(bytes)
        val family = File(home, index.name)
        val folder = File(family, index.digest)
        synchronized(LOCK) {
            if (folder.isDirectory) return Unpacked(folder, index)
            try {
                Files.createDirectories(family.toPath())
                // Two processes of an app, each with a model, begin at the same time.
                FileChannel.open(File(home, ".${index.name}.lock").toPath(), CREATE, WRITE).use { channel ->
                    channel.lock().use { if (!folder.isDirectory) write(index, bytes, files, family, folder) }
                }
            } catch (error: IOException) {
                throw DeviceException("bundle '${index.name}' cannot be unpacked to $family: ${error.message}", error)
            }
        }
        return Unpacked(folder, index)
    }

    private fun write(index: BundleIndex, bytes: ByteArray, files: BundleFiles, family: File, folder: File) {
        // What a process left behind that ended while it unpacked.
        family.listFiles { file -> file.name.endsWith(PART) }?.forEach { it.deleteRecursively() }
        val needed = index.bytes + bytes.size
        val free = room(family)
        if (free < needed + KEPT_FREE) {
            val lacks = "${mb(needed + KEPT_FREE)} to be unpacked and $family has ${mb(free)} free"
            throw DeviceException(
                "bundle '${index.name}' needs $lacks: make room, or ship it as an asset pack, which is used in place",
            )
        }
        val part = File(family, ".${index.digest}$PART")
        try {
            for (file in index.files) copy(index, file, files, File(part, file.path))
            save(File(part, BundleIndex.FILE)) { it.write(bytes) }
            Files.move(part.toPath(), folder.toPath(), ATOMIC_MOVE)
        } catch (error: Throwable) {
            part.deleteRecursively()
            throw error
        }
        sync(family)
        family.listFiles()?.filter { it != folder }?.forEach { it.deleteRecursively() }
    }

    private fun copy(index: BundleIndex, file: BundledFile, files: BundleFiles, target: File) {
        Files.createDirectories(target.parentFile.toPath())
        val digest = MessageDigest.getInstance("SHA-256")
        var size = 0L
        val from = try {
            files.open(file.path)
        } catch (error: IOException) {
            throw PackException(
                "bundle '${index.name}': ${file.path} is missing (${error.message}): bundle it again",
                error,
            )
        }
        from.use {
            save(target) { to ->
                val chunk = ByteArray(CHUNK)
                while (true) {
                    val count = from.read(chunk)
                    if (count < 0) break
                    size += count
                    if (size > file.bytes) break
                    digest.update(chunk, 0, count)
                    to.write(chunk, 0, count)
                }
            }
        }
        val found = digest.digest().joinToString("") { "%02x".format(it) }
        if (size != file.bytes || found != file.sha256) {
            throw PackException(
                "bundle '${index.name}': ${file.path} is damaged: it is not what ${BundleIndex.FILE} says; bundle it again",
            )
        }
    }

    private fun mb(bytes: Long): String = String.format(Locale.ROOT, "%.1f MB", bytes / 1e6)

    companion object {
        private const val PART = ".part"
        private val LOCK = Any() // locks of files are those of a whole process

        /** A bundle that lies in a folder already, and is used there. Throws [PackException]. May block. */
        fun inPlace(folder: File): Unpacked = Unpacked(folder, BundleIndex.parse(indexOf(FolderFiles(folder))))

        private fun indexOf(files: BundleFiles): ByteArray = try {
            files.open(BundleIndex.FILE).use { readAtMost(it, BundleIndex.LIMIT) }
        } catch (error: IOException) {
            throw PackException(
                "there is no bundle: ${BundleIndex.FILE} cannot be read (${error.message}); make one with " +
                    "adaptivenet-export --bundle android",
                error,
            )
        }

        private fun readAtMost(stream: InputStream, limit: Int): ByteArray {
            val bytes = java.io.ByteArrayOutputStream()
            val chunk = ByteArray(CHUNK)
            while (true) {
                val count = stream.read(chunk)
                if (count < 0) return bytes.toByteArray()
                bytes.write(chunk, 0, count)
                if (bytes.size() > limit) throw PackException("${BundleIndex.FILE} has more than $limit bytes")
            }
        }
    }
}

/** Writes a file, and returns when it is on the disk. */
internal fun save(file: File, write: (FileOutputStream) -> Unit) {
    FileOutputStream(file).use {
        write(it)
        it.fd.sync()
    }
}

/** Makes sure that names in a folder are on the disk, where the system can do that. */
internal fun sync(folder: File) {
    try {
        FileChannel.open(folder.toPath(), READ).use { it.force(true) }
    } catch (_: IOException) {
        return
    }
}
