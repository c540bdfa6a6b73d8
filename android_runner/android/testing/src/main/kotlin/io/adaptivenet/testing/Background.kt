package io.adaptivenet.testing

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertThrows
import java.util.concurrent.Callable
import java.util.concurrent.ExecutionException
import java.util.concurrent.Executors
import java.util.concurrent.Future
import java.util.concurrent.TimeUnit

private val threads = Executors.newCachedThreadPool { work -> Thread(work).apply { isDaemon = true } }

/** Does something on a thread of its own. */
public fun <T> inBackground(work: () -> T): Future<T> = threads.submit(Callable(work))

/** What it came to, within a minute. */
public fun <T> Future<T>.ended(): T = get(60, TimeUnit.SECONDS)

/** Holds that it ended because the model was closed. */
public fun assertEndedWithItsModel(work: Future<*>) {
    val error = assertThrows(ExecutionException::class.java) { work.ended() }
    assertEquals("the model is closed", (error.cause as? IllegalStateException)?.message, "${error.cause}")
}
