// SPDX-License-Identifier: MIT
import com.google.common.util.concurrent.RateLimiter;
import java.util.Scanner;
import java.util.concurrent.CountDownLatch;

/** The race's runner for Guava's RateLimiter; see race.hpp for what it reads and answers. Latencies by System.nanoTime. */
public final class Race {
    static volatile boolean stop;

    static final class Worker extends Thread {
        final RateLimiter limiter;
        final String kind;
        final CountDownLatch ready;
        final CountDownLatch go;
        final int[] latencies = new int[57 * 128 + 256];
        long attempts;
        long granted;

        Worker(RateLimiter limiter, String kind, CountDownLatch ready, CountDownLatch go) {
            this.limiter = limiter;
            this.kind = kind;
            this.ready = ready;
            this.go = go;
        }

        static int untimed(RateLimiter limiter) {
            int granted = 0;
            for (int i = 0; i < 16; i++) if (limiter.tryAcquire()) granted++;
            return granted;
        }

        static int timed(RateLimiter limiter, int[] latencies) {
            int granted = 0;
            for (int i = 0; i < 16; i++) {
                long before = System.nanoTime();
                boolean one = limiter.tryAcquire();
                note(latencies, System.nanoTime() - before);
                if (one) granted++;
            }
            return granted;
        }

        static int timerAlone(int[] latencies) {
            for (int i = 0; i < 16; i++) {
                long before = System.nanoTime();
                note(latencies, System.nanoTime() - before);
            }
            return 16;
        }

        static void note(int[] latencies, long v) {
            int shift = v < 256 ? 0 : 56 - Long.numberOfLeadingZeros(v);
            latencies[(shift << 7) + (int) (v >> shift)]++;
        }

        @Override
        public void run() {
            ready.countDown();
            try {
                go.await();
            } catch (InterruptedException e) {
                return;
            }
            long a = 0;
            long g = 0;
            switch (kind) {
                case "rate":
                    for (; !stop; a += 16) g += untimed(limiter);
                    break;
                case "latency":
                    for (; !stop; a += 16) g += timed(limiter, latencies);
                    break;
                default:
                    for (; !stop; a += 16) g += timerAlone(latencies);
            }
            attempts = a;
            granted = g;
        }
    }

    static void run(String name, boolean grant, int threads, String kind, int ms) throws InterruptedException {
        RateLimiter limiter = RateLimiter.create(grant ? 1e9 : 1.0 / 60);
        if (!grant) limiter.tryAcquire();
        stop = false;
        CountDownLatch ready = new CountDownLatch(threads);
        CountDownLatch go = new CountDownLatch(1);
        Worker[] workers = new Worker[threads];
        for (int i = 0; i < threads; i++) {
            workers[i] = new Worker(limiter, name.equals("timer") ? "timer" : kind, ready, go);
            workers[i].start();
        }
        ready.await();
        long begin = System.nanoTime();
        go.countDown();
        Thread.sleep(ms);
        stop = true;
        long ns = System.nanoTime() - begin;
        long attempts = 0;
        long granted = 0;
        long[] latencies = new long[57 * 128 + 256];
        for (Worker w : workers) {
            w.join();
            attempts += w.attempts;
            granted += w.granted;
            for (int i = 0; i < latencies.length; i++) latencies[i] += w.latencies[i];
        }
        StringBuilder line = new StringBuilder();
        line.append(attempts).append(' ').append(grant ? attempts - granted : granted).append(' ').append(ns);
        for (int i = 0; i < latencies.length; i++) {
            int shift = i < 256 ? 0 : i / 128 - 1;
            if (latencies[i] != 0) line.append(' ').append((long) (i - shift * 128) << shift).append(':').append(latencies[i]);
        }
        System.out.println(line);
    }

    public static void main(String[] arguments) throws InterruptedException {
        Scanner in = new Scanner(System.in);
        while (in.hasNext()) {
            String name = in.next();
            boolean grant = in.next().equals("granted");
            run(name, grant, in.nextInt(), in.next(), in.nextInt());
        }
    }
}
