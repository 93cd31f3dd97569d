// A queue of jobs: how many run at once, and in which order they start. Pure.

export class Queue {
  #run;
  #concurrency;
  #waiting = [];
  #running = 0;

  /** At most concurrency jobs run at once; run(job) returns a promise that settles when the job has ended. */
  constructor(concurrency, run) {
    this.#concurrency = concurrency;
    this.#run = run;
  }

  /** add appends jobs, or puts them before all waiting jobs if first is true, and starts what may run. */
  add(jobs, { first = false } = {}) {
    if (first) this.#waiting.unshift(...jobs);
    else this.#waiting.push(...jobs);
    this.#start();
  }

  /** remove drops the waiting jobs for which test(job) is true. Running jobs are not affected. */
  remove(test) {
    this.#waiting = this.#waiting.filter((job) => !test(job));
  }

  #start() {
    while (this.#running < this.#concurrency && this.#waiting.length) {
      this.#running++;
      this.#run(this.#waiting.shift()).finally(() => {
        this.#running--;
        this.#start();
      });
    }
  }
}
