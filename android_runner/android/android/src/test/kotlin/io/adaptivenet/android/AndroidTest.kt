package io.adaptivenet.android

import android.app.ApplicationExitInfo
import android.content.ComponentCallbacks2
import android.content.Context
import io.adaptivenet.AdaptiveModel
import io.adaptivenet.DeviceException
import io.adaptivenet.Options
import io.adaptivenet.percent
import io.adaptivenet.testing.answer
import io.adaptivenet.testing.assertClose
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertNull
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir
import java.io.File
import java.util.concurrent.CountDownLatch
import java.util.concurrent.TimeUnit.SECONDS

/**
 * As much of Android's own classes as a JVM runs: their Java code does, what needs the system behind it does not. So the
 * context here has no services, as that of an odd device.
 */
class AndroidTest {
    @TempDir
    lateinit var home: File

    private fun model(watch: Canary? = null): AdaptiveModel {
        val bundle = Unpacker(File(home, "bundles")).unpack(unchanged())
        val profile = bundle.index.profileFor("SM8475")
        assertEquals("profiles/SM8450.json", profile.file)
        return AdaptiveModel.create(
            bundle.folder,
            File(bundle.folder, profile.file),
            Options(budget = 100000.percent, loadWatch = watch),
        )
    }

    @Test
    fun `a bundle of Python's serves, and gives what Python gives`() {
        val answers = answers()
        model(Canary(File(home, "canary"), "test")).use { model ->
            assertEquals(answers.subnets.size, model.points.size)
            answers.subnets.forEachIndexed { at, subnet ->
                model.activate(at)
                model.await()
                assertEquals(subnet, model.status.subnet)
                assertClose(answers.outputs[at][0], model.answer(answers.inputs[0]), "$subnet")
            }
        }
        assertTrue(File(home, "canary").list().orEmpty().none { it.endsWith(".trying") })
    }

    @Test
    fun `a point that is denied does not serve, and another one does`() {
        val folder = File(home, "canary")
        val all = answers().subnets
        val probe = ArrayList<List<String>>()
        model(Canary(folder, "test")).use { model -> probe += model.status.subnet }
        val passed = folder.listFiles().orEmpty().first { it.extension == "passed" }
        passed.renameTo(File(folder, "${passed.nameWithoutExtension}.denied"))
        if (all.size > 1) model(Canary(folder, "test")).use { assertFalse(it.status.subnet in probe) }
        val error = assertThrows(DeviceException::class.java) {
            model(Canary(folder, "test")).use {
                it.activate(probe.single())
                it.await()
            }
        }
        assertTrue("ended the app when it was tried on this device" in error.message.orEmpty(), error.message)
    }

    @Test
    fun `a device is watched until its model is closed`() {
        val context = Bare(home)
        val model = model()
        val watch = watchDevice(context, model)
        val callbacks = context.registered.single() as ComponentCallbacks2
        callbacks.onTrimMemory(ComponentCallbacks2.TRIM_MEMORY_RUNNING_CRITICAL)
        model.close()
        watch.look()
        val isOver = CountDownLatch(1)
        Thread {
            while (context.registered.isNotEmpty()) Thread.sleep(5)
            isOver.countDown()
        }.apply { isDaemon = true }.start()
        assertTrue(isOver.await(60, SECONDS))
    }

    @Test
    fun `an app opens a bundle that lies in a folder, with the profile of the nearest chip`() {
        val context = Bare(home)
        assertEquals("profiles/SM8450.json", AndroidModels.profileOf(ASSETS).file)
        AdaptiveModel.create(context, ASSETS, Options(budget = 100000.percent)).use { model ->
            model.run(model.createInputBuffer(), model.createOutputBuffer())
            assertEquals(1, context.registered.size)
        }
        val canary = File(home, "adaptivenet/canary/tiny")
        val tried = canary.listFiles().orEmpty().filter { it.extension == "passed" }
        tried.forEach { it.renameTo(File(canary, "${it.nameWithoutExtension}.denied")) } // as if each had ended the app
        assertThrows(DeviceException::class.java) { denying(context) }
        denying(Bare(home, "two.apk")) // an update, with perhaps another engine
    }

    private fun denying(context: Context) {
        AndroidModels.create(context, ASSETS, Options(budget = 100000.percent)).use { model ->
            model.activate(model.points.size - 1)
            model.await()
        }
    }

    @Test
    fun `a device without services says nothing, and an old one is not asked for what it does not have`() {
        val context: Context = Bare(home)
        assertNull(AndroidThermometer(context, 34).headroom())
        assertNull(AndroidThermometer(context, 26).status())
        assertNull(AndroidMemory(context).free())
        assertNull(AndroidPower(context).isSaving())
        assertNull(EnergySource(AndroidPower(context)).read())
    }

    @Test
    fun `a crash is none of the good ends`() {
        assertTrue(AndroidModels.isGoodEnd(ApplicationExitInfo.REASON_USER_REQUESTED))
        for (reason in listOf(ApplicationExitInfo.REASON_CRASH_NATIVE, ApplicationExitInfo.REASON_SIGNALED)) {
            assertFalse(AndroidModels.isGoodEnd(reason))
        }
    }
}
