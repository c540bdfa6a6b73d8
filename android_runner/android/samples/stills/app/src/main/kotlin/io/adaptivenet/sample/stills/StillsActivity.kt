package io.adaptivenet.sample.stills

import android.app.Activity
import android.content.Intent
import android.graphics.Bitmap
import android.graphics.ImageDecoder
import android.net.Uri
import android.os.Build
import android.os.Bundle
import android.provider.MediaStore
import android.widget.Button
import android.widget.ImageView
import android.widget.LinearLayout
import android.widget.SeekBar
import android.widget.TextView
import io.adaptivenet.AdaptiveModel
import io.adaptivenet.AdaptiveNetException
import io.adaptivenet.DataException
import io.adaptivenet.Options
import io.adaptivenet.TensorBuffer
import io.adaptivenet.android.PerformanceHint
import io.adaptivenet.android.create
import io.adaptivenet.pack.Preprocessing
import io.adaptivenet.percent
import java.util.Locale
import java.util.concurrent.ExecutorService
import java.util.concurrent.Executors
import java.util.concurrent.atomic.AtomicReference

private const val BUNDLE = "model"
private const val CHOOSE = 1
private const val LEAST_PERCENT = 20
private const val PAUSE_MS = 200L // between two inferences: the eye is not quicker, and the phone stays cool

/** Classifies a picture that the user chooses, over and over, and shows which point of the front serves, and why. */
public class StillsActivity : Activity() {
    private lateinit var image: ImageView
    private lateinit var said: TextView
    private var worker: ExecutorService? = null // opens the model, infers, and closes it: one thread after another
    private val picture = AtomicReference<Bitmap?>()

    @Volatile
    private var model: AdaptiveModel? = null

    @Volatile
    private var isShown = false

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        image = ImageView(this).apply { adjustViewBounds = true }
        said = TextView(this).apply { text = "Choose a picture." }
        val budget = SeekBar(this).apply {
            max = 100
            progress = 100
            setOnSeekBarChangeListener(BudgetListener())
        }
        val choose = Button(this).apply {
            text = "Choose"
            setOnClickListener { startActivityForResult(chooser(), CHOOSE) }
        }
        setContentView(
            LinearLayout(this).apply {
                orientation = LinearLayout.VERTICAL
                fitsSystemWindows = true
                listOf(choose, budget, said, image).forEach(::addView)
            },
        )
    }

    override fun onStart() {
        super.onStart()
        isShown = true
        worker = Executors.newSingleThreadExecutor().apply { execute(::work) }
    }

    override fun onStop() {
        isShown = false // the worker ends after the inference that is on, and closes the model
        worker?.shutdown()
        super.onStop()
    }

    private fun chooser() = Intent(Intent.ACTION_OPEN_DOCUMENT).setType("image/*").addCategory(Intent.CATEGORY_OPENABLE)

    @Deprecated("Its successor is in a library that is not on Maven Central")
    override fun onActivityResult(requestCode: Int, resultCode: Int, data: Intent?) {
        if (requestCode == CHOOSE && resultCode == RESULT_OK) data?.data?.let { show(it) }
    }

    private fun show(uri: Uri) {
        val chosen = decode(uri).copy(Bitmap.Config.ARGB_8888, false)
        image.setImageBitmap(chosen)
        picture.set(chosen)
    }

    @Suppress("DEPRECATION") // what replaces it is there since Android 9
    private fun decode(uri: Uri): Bitmap = if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.P) {
        ImageDecoder.decodeBitmap(ImageDecoder.createSource(contentResolver, uri))
    } else {
        MediaStore.Images.Media.getBitmap(contentResolver, uri)
    }

    private inner class BudgetListener : SeekBar.OnSeekBarChangeListener {
        override fun onProgressChanged(bar: SeekBar, progress: Int, fromUser: Boolean) {
            try {
                if (fromUser) model?.setBudget(progress.coerceAtLeast(LEAST_PERCENT).percent)
            } catch (_: IllegalStateException) {
                return // the worker has just closed it
            }
        }

        override fun onStartTrackingTouch(bar: SeekBar): Unit = Unit

        override fun onStopTrackingTouch(bar: SeekBar): Unit = Unit
    }

    private fun work() {
        try {
            AdaptiveModel.create(this, BUNDLE, Options(budget = 100.percent)).use { opened ->
                model = opened
                PerformanceHint.open(this, opened.wholeMs).use { hint -> serve(opened, hint) }
            }
        } catch (error: AdaptiveNetException) {
            say(error.message.orEmpty())
        } finally {
            model = null
        }
    }

    private fun serve(model: AdaptiveModel, hint: PerformanceHint) {
        val recipe = model.pack.preprocessing ?: return say("This network takes no pictures.")
        val input = model.createInputBuffer()
        val output = model.createOutputBuffer()
        var written: Bitmap? = null
        while (isShown) {
            val now = picture.get()
            if (now != null && now !== written) {
                written = now.takeIf { isWritten(it, recipe, input) }
                if (written == null) picture.compareAndSet(now, null)
            }
            if (now != null && now === written) {
                val inference = model.run(input, output) // never waits for a load
                hint.ran(inference)
                say(describe(model, output, inference.ms))
            }
            Thread.sleep(PAUSE_MS)
        }
    }

    private fun isWritten(picture: Bitmap, recipe: Preprocessing, input: TensorBuffer): Boolean = try {
        write(picture, recipe, input)
        true
    } catch (error: DataException) { // another one may do
        say(error.message.orEmpty())
        false
    }

    private fun describe(model: AdaptiveModel, output: TensorBuffer, ms: Double): String {
        val scores = output.readFloats()
        val best = scores.indices.maxByOrNull { scores[it] } ?: 0
        val status = model.status
        return String.format(
            Locale.getDefault(),
            "%s\n%.1f ms, point %s of %d, %.2f times as slow as profiled, %.1f MB\n%s\n%s",
            model.pack.classes?.getOrNull(best) ?: "class $best",
            ms,
            status.point?.plus(1) ?: "?",
            model.points.size,
            status.slowdown,
            status.residentBytes / 1e6,
            status.why,
            status.error.orEmpty(),
        )
    }

    private fun say(text: String): Unit = runOnUiThread { said.text = text }
}
