package io.adaptivenet.android

import io.adaptivenet.DeviceException
import io.adaptivenet.LoadWatch
import java.io.File
import java.io.IOException
import java.nio.file.Files
import java.nio.file.StandardCopyOption.ATOMIC_MOVE
import java.security.MessageDigest

private const val TRYING = "trying"
private const val DENIED = "denied"
private const val PASSED = "passed"
private const val BEGAN = 22 // the field of /proc/PID/stat, counted from 1

/**
 * Remembers which programs ended the process when they were tried. Engines have died of instructions that a new chip does not
 * have, and an app that tries again at every start never starts.
 *
 * Before a program is loaded and run for the first time, its note is written to [folder], and struck out after it. A note of
 * a process that is no more is that of a program that ended it: it is denied from then on. [about] is everything on which that
 * depends beside the program, such as the engine's version and that of the system: when it changes, everything is tried anew.
 * [endedWell] says whether the process before this one is known to have been ended by the user or the system, not by a crash.
 *
 * Several models and processes may share a folder. Opening it may block.
 */
public class Canary @JvmOverloads constructor(
    private val folder: File,
    about: String,
    endedWell: () -> Boolean = { false },
) : LoadWatch {
    private val about = File(folder, "about")

    init {
        try {
            Files.createDirectories(folder.toPath())
            if (!this.about.exists() || this.about.readText() != about) forget(about)
            settle(endedWell)
        } catch (error: IOException) {
            throw DeviceException(
                "what ended the process before cannot be remembered in $folder: ${error.message}",
                error,
            )
        }
    }

    /** The programs that are denied: of each, the names of its blocks. */
    public val denied: List<List<String>>
        get() = notes(DENIED).map { it.readLines().drop(1) } // the first is the process

    /** Everything may be tried again. May block. */
    public fun forgive() {
        notes(DENIED).forEach { it.delete() }
    }

    /** See [LoadWatch.watch]. Throws [DeviceException] for a program that is denied, and where no note can be written. */
    override fun watch(blocks: List<String>, work: Runnable) {
        val id = idOf(blocks)
        if (File(folder, "$id.$DENIED").exists()) {
            throw DeviceException(
                "${blocks.joinToString(" ")} ended the app when it was tried on this device, and is not tried again",
            )
        }
        val passed = File(folder, "$id.$PASSED")
        if (passed.exists()) return work.run()
        val trying = File(folder, "$id.$TRYING")
        try {
            val process = identityOf("self").orEmpty()
            save(trying) { it.write((listOf(process) + blocks).joinToString("\n").toByteArray()) }
            sync(folder)
        } catch (error: IOException) {
            throw DeviceException("a program is not tried without a note of it, and $folder cannot be written", error)
        }
        try {
            work.run()
        } catch (error: Throwable) {
            trying.delete() // the process lives
            throw error
        }
        try {
            Files.move(trying.toPath(), passed.toPath(), ATOMIC_MOVE)
        } catch (_: IOException) { // another model has tried the same, or it is not remembered: no reason not to serve
            trying.delete()
        }
    }

    private fun settle(endedWell: () -> Boolean) {
        val left = notes(TRYING).filterNot { isOfALivingProcess(it) }
        if (left.isEmpty()) return
        val isForgiven = endedWell()
        for (note in left) {
            if (isForgiven) {
                note.delete()
            } else {
                Files.move(note.toPath(), File(folder, "${note.nameWithoutExtension}.$DENIED").toPath(), ATOMIC_MOVE)
            }
        }
        sync(folder)
    }

    private fun isOfALivingProcess(note: File): Boolean {
        val process = note.useLines { it.firstOrNull() }.orEmpty()
        return process.isNotEmpty() && identityOf(process.substringBefore(' ')) == process
    }

    /** A process's number and when it began: numbers are used again. Null: there is none, or the system does not tell. */
    private fun identityOf(process: String): String? = try {
        val fields = File("/proc/$process/stat").readText()
        // The second field is a name in parentheses, which may hold anything.
        fields.substringBefore(' ') + " " + fields.substringAfterLast(") ").split(' ')[BEGAN - 3]
    } catch (_: IOException) {
        null
    }

    private fun forget(about: String) {
        folder.listFiles()?.forEach { it.delete() }
        save(this.about) { it.write(about.toByteArray()) }
    }

    private fun notes(kind: String): List<File> =
        folder.listFiles { file -> file.extension == kind }?.sortedBy { it.name }.orEmpty()

    private fun idOf(blocks: List<String>): String =
        MessageDigest.getInstance("SHA-256").digest(blocks.joinToString("\n").toByteArray())
            .joinToString("") { "%02x".format(it) }
}
