package io.adaptivenet.executorch

import org.junit.jupiter.api.Assumptions.assumeTrue
import java.io.File

/** Skips a test where nothing serves ExecuTorch's Java API on this computer. */
internal fun assumeHostLibrary() {
    val library = File(System.getProperty("adaptivenet.executorch"))
    assumeTrue(library.isFile, "$library is missing: scripts/executorch_host builds it")
}
