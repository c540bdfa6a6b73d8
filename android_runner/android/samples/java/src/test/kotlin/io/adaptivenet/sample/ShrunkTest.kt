package io.adaptivenet.sample

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir
import java.io.File
import java.util.concurrent.TimeUnit

/** The sample in plain Java, as it was compiled and as ProGuard leaves it with the rules that the AAR brings. */
class ShrunkTest {
    @TempDir
    lateinit var home: File

    private val bundle = File(System.getProperty("adaptivenet.bundle"), "app/assets/tiny").path
    private val classPath = System.getProperty("java.class.path").split(File.pathSeparator)

    private fun java(vararg arguments: String): String {
        val java = File(System.getProperty("java.home"), "bin/java").path
        val said = File(home, "said")
        val process = ProcessBuilder(listOf(java) + arguments).redirectErrorStream(true).redirectOutput(said).start()
        assertTrue(process.waitFor(300, TimeUnit.SECONDS), "it does not end")
        assertEquals(0, process.exitValue(), said.readText())
        return said.readText()
    }

    /** Of the class path, what an app ships, apart from an engine. */
    private fun shipped() = classPath.filter { path ->
        val parts = path.split(File.separatorChar)
        ("adaptivenet" in path && "test-classes" !in parts && "samples" !in parts) ||
            path.endsWith("java/target/classes") || "kotlin-stdlib" in parts.last()
    }

    @Test
    fun `a shrunk program does what it did before`() {
        val engine = classPath.single { File(it).name.startsWith("onnxruntime-") }
        val ours = shipped()
        val before =
            java("-cp", (ours + engine).joinToString(File.pathSeparator), "io.adaptivenet.sample.Classify", bundle)
        assertTrue(before.startsWith("point 0: "), before)

        val shrunk = File(home, "shrunk.jar")
        val rules = File(home, "rules.pro")
        val inputs = ours.joinToString("\n") { "-injars '$it'(!module-info.class,!META-INF/versions/**)" }
        val jdk = File(System.getProperty("java.home"), "jmods/java.base.jmod")
        rules.writeText(
            """
            $inputs
            -outjars '$shrunk'
            -libraryjars '$jdk'(!**.jar;!module-info.class)
            -libraryjars '$engine'
            -include '${System.getProperty("adaptivenet.rules")}'
            -keep class io.adaptivenet.sample.Classify { public static void main(java.lang.String[]); }
            -adaptresourcefilenames META-INF/services/**
            -adaptresourcefilecontents META-INF/services/**
            -dontnote **
            -dontwarn org.jetbrains.annotations.**
            """.trimIndent(),
        )
        java("-cp", classPath.joinToString(File.pathSeparator), "proguard.ProGuard", "@$rules")
        val size = ours.sumOf { path -> File(path).walkTopDown().filter { it.isFile }.sumOf { it.length() } }
        assertTrue(shrunk.length() < size / 2, "${shrunk.length()} of $size bytes are left")
        val after = java("-cp", "$shrunk${File.pathSeparator}$engine", "io.adaptivenet.sample.Classify", bundle)
        assertEquals(before, after)
    }
}
