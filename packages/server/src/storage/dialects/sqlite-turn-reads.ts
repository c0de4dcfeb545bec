import type { SqliteDatabase, SqliteStatement } from "./sqlite-driver.ts";

/**
 * What is read in one turn of the event loop is read in one transaction: each of its own would take the locks and look at the log again, which is most
 * of what a read of one row costs. It shows the store as it was at the first read, so whoever writes ends it first: see `end`. And the log can be
 * begun anew only by a commit during which nobody reads: with one that is open in every turn it would grow for ever.
 */
export class TurnReads {
  private readonly database: SqliteDatabase;
  private readonly begin: SqliteStatement;
  private readonly rollback: SqliteStatement;
  private isOpen = false;
  private readonly endTurn = () => this.end();

  constructor(database: SqliteDatabase) {
    this.database = database;
    this.begin = database.prepare("BEGIN");
    this.rollback = database.prepare("ROLLBACK"); // nothing was written, and it cannot fail
  }

  read<T>(work: () => T): T {
    if (!this.isOpen) {
      this.begin.run();
      this.isOpen = true;
      setImmediate(this.endTurn);
    }
    return work();
  }

  /** Call it before this connection writes, and in one stretch with the commit of another one of this process: what is read from then on is what was written. */
  end(): void {
    if (!this.isOpen) return;
    this.isOpen = false;
    if (this.database.isTransaction) this.rollback.run(); // a read that fails may have ended it
  }
}
