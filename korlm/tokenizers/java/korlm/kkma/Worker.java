package korlm.kkma;

import java.io.BufferedInputStream;
import java.io.BufferedOutputStream;
import java.io.FileDescriptor;
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.io.PrintStream;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.LinkedBlockingQueue;

/**
 * A process that analyzes lines: jobs in through stdin, columns out through stdout.
 *
 * <p>A frame is two little-endian lengths, a head and data. Frames of the parent
 * (korlm/tokenizers/kkma/process.py) are jobs: the head is "ID OUTPUT NUMBER", the data as many
 * lengths, and the lines in UTF-8. The first one has the user's words in place of lines; the second
 * one is analyzed before the process is ready. The heads of answers are JSON:
 *
 * <ul>
 *   <li>ready: the number of dictionary entries; columns: the sizes of the buffers that follow,
 *       each padded to eight bytes;
 *   <li>id: a job is done; errors: number and reason of each line that could not be analyzed;
 *       columns as above;
 *   <li>alive: each second.
 * </ul>
 *
 * <p>The process ends at once when stdin closes.
 */
public final class Worker {
    private static final int STACK_BYTES = 64 << 20; // Kkma is recursive: runs of ㅋ go deep
    private static final int ALIVE_MILLIS = 1000;

    private static final class Job {
        final String id, output;
        final String[] lines;

        Job(String[] head, ByteBuffer data) {
            id = head[0];
            output = head[1];
            lines = new String[Integer.parseInt(head[2])];
            int at = 4 * lines.length;
            for (int i = 0; i < lines.length; i++) {
                int length = data.getInt(4 * i);
                lines[i] = new String(data.array(), at, length, StandardCharsets.UTF_8);
                at += length;
            }
        }
    }

    private final LinkedBlockingQueue<Job> jobs = new LinkedBlockingQueue<>();
    private final OutputStream out;
    private final Object memoryLock = new Object();

    private Worker(OutputStream out) {
        this.out = out;
    }

    /** Runs until stdin closes, with arguments THREADS READINGS BUDGET CUT (see Engine). */
    public static void main(String[] arguments) {
        Worker worker =
                new Worker(new BufferedOutputStream(new FileOutputStream(FileDescriptor.out)));
        System.setOut(new PrintStream(OutputStream.nullOutputStream())); // what Kkma prints
        worker.start("reader", 0, worker::readJobs);
        worker.start("starter", STACK_BYTES, () -> worker.work(arguments));
    }

    private interface Task {
        void run() throws Exception;
    }

    /** Starts a thread; the process ends with any of them. */
    private void start(String name, long stackBytes, Task task) {
        new Thread(null, () -> {
            int code = 1;
            try {
                task.run();
                code = 0;
            } catch (Throwable error) {
                System.err.println(error);
            } finally {
                Runtime.getRuntime().halt(code);
            }
        }, name, stackBytes).start();
    }

    private void readJobs() throws IOException {
        InputStream in = new BufferedInputStream(new FileInputStream(FileDescriptor.in), 1 << 16);
        while (true) {
            byte[] sizes = in.readNBytes(8);
            if (sizes.length < 8) return;
            ByteBuffer numbers = littleEndian(sizes);
            byte[] head = in.readNBytes(numbers.getInt(0));
            byte[] data = in.readNBytes(numbers.getInt(4));
            if (head.length < numbers.getInt(0) || data.length < numbers.getInt(4)) return;
            String[] fields = new String(head, StandardCharsets.US_ASCII).split(" ");
            jobs.add(new Job(fields, littleEndian(data)));
        }
    }

    private void work(String[] arguments) throws Exception {
        int threads = Integer.parseInt(arguments[0]);
        Engine.Shared shared =
                new Engine.Shared(Long.parseLong(arguments[1]), jobs.take().lines[0]);
        long budget = Long.parseLong(arguments[2]);
        boolean cut = Boolean.parseBoolean(arguments[3]);
        Engine first = new Engine(shared, budget, cut);
        answer("\"ready\":" + shared.numEntries(), first, jobs.take());
        for (int i = 0; i < threads; i++) {
            Engine engine = i == 0 ? first : new Engine(shared, budget, cut);
            start("engine " + i, STACK_BYTES, () -> {
                while (true) {
                    Job job = jobs.take();
                    answer("\"id\":" + job.id, engine, job);
                }
            });
        }
        while (true) {
            Thread.sleep(ALIVE_MILLIS);
            send("{\"alive\":true}", new Columns.Buffer[0]);
        }
    }

    private void answer(String name, Engine engine, Job job) throws IOException {
        Columns columns = new Columns();
        StringBuilder errors = new StringBuilder();
        for (int i = 0; i < job.lines.length; i++) {
            String error = engine.analyze(job.lines[i], job.output, columns);
            if ("OutOfMemoryError".equals(error)) { // other threads may have filled the heap
                synchronized (memoryLock) {
                    error = engine.analyze(job.lines[i], job.output, columns);
                }
            }
            if (error != null) {
                columns.endLine("", 0, 0);
                if (errors.length() > 0) errors.append(',');
                errors.append('[').append(i).append(",\"").append(error).append("\"]");
            }
        }
        StringBuilder sizes = new StringBuilder();
        for (Columns.Buffer buffer : columns.buffers()) {
            sizes.append(sizes.length() > 0 ? "," : "").append(buffer.size());
        }
        send("{" + name + ",\"errors\":[" + errors + "],\"columns\":[" + sizes + "]}",
                columns.buffers());
    }

    private synchronized void send(String head, Columns.Buffer[] buffers) throws IOException {
        int size = 0;
        for (Columns.Buffer buffer : buffers) size = Math.addExact(size, padded(buffer.size()));
        byte[] sizes = new byte[8];
        littleEndian(sizes).putInt(head.length()).putInt(size);
        out.write(sizes);
        out.write(head.getBytes(StandardCharsets.US_ASCII));
        for (Columns.Buffer buffer : buffers) {
            out.write(buffer.array(), 0, buffer.size());
            out.write(new byte[padded(buffer.size()) - buffer.size()]);
        }
        out.flush();
    }

    private static int padded(int size) {
        return Math.addExact(size, 7) & ~7;
    }

    private static ByteBuffer littleEndian(byte[] bytes) {
        return ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN);
    }
}
