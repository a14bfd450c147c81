// Package partition is one SQLite file of the log store: the chunks of a range of
// entries, their full-text index, and how far the spool has been read. Entries and read
// offsets change in the same transaction, which is what makes capture exactly-once.
package partition

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/tenement-fleet/tenement/runtime/logs/internal/chunk"
	"modernc.org/sqlite" // also registers the pure-Go driver "sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// schema: the index keeps neither texts nor positions nor lengths: all it answers is
// which chunks have a term. Terms arrive ready-made,
// separated by blanks, and consist of ':', '-', '_', ASCII letters and digits and
// non-ASCII characters; so the tokenizer splits at blanks only. automerge: merging index
// segments late makes ingestion a third faster and lookups no slower.
const schema = `
CREATE TABLE meta(boot TEXT NOT NULL);
CREATE TABLE spool(source TEXT PRIMARY KEY, at INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE chunk(first INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE VIRTUAL TABLE terms USING fts5(t, content='', detail=none, columnsize=0, tokenize="ascii tokenchars ':-_'");
INSERT INTO terms(terms, rank) VALUES('automerge', 16);
`

// DB is an open partition. Append is for one goroutine; everything else for many.
type DB struct {
	path  string
	write *sql.DB // nil when opened for reading
	read  *sql.DB
	chunk *sql.Stmt
	terms *sql.Stmt
	spool *sql.Stmt
}

// Create makes the partition at path, which must not exist, with the given offsets of
// spool streams. boot names the machine's current boot.
func Create(ctx context.Context, path, boot string, offsets map[string]int64) (*DB, error) {
	if _, err := os.Lstat(path); err == nil {
		return nil, fmt.Errorf("create log partition %s: %w", path, fs.ErrExist)
	}
	d := &DB{path: path, write: connect(path, "rwc", 1)}
	if err := d.create(ctx, boot, offsets); err != nil {
		_ = d.write.Close()
		_ = remove(path)
		return nil, fmt.Errorf("create log partition: %w", err)
	}
	if err := d.prepare(ctx); err != nil {
		_ = d.Close()
		return nil, fmt.Errorf("create log partition: %w", err)
	}
	d.read = connect(path, "rw", readers)
	return d, nil
}

func (d *DB) create(ctx context.Context, boot string, offsets map[string]int64) error {
	// Outside the transaction: switching to WAL is not allowed in one.
	if _, err := d.write.ExecContext(ctx, "PRAGMA journal_mode(WAL)"); err != nil {
		return err
	}
	tx, err := d.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	if _, err := tx.ExecContext(ctx, schema); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, "INSERT INTO meta VALUES(?)", boot); err != nil {
		return err
	}
	for source, at := range offsets {
		if _, err := tx.ExecContext(ctx, "INSERT INTO spool VALUES(?, ?)", source, at); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// Open opens an existing partition for appending.
func Open(ctx context.Context, path string) (*DB, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("open log partition: %w", err)
	}
	d := &DB{path: path, write: connect(path, "rw", 1)}
	if err := d.prepare(ctx); err != nil {
		_ = d.closeWriter()
		if code(err) == sqlite3.SQLITE_ERROR { // no such table
			err = fmt.Errorf("%w: %w", errSchema, err)
		}
		return nil, fmt.Errorf("open log partition %s: %w", path, err)
	}
	d.read = connect(path, "rw", readers)
	return d, nil
}

// OpenTight opens an existing partition on a full disk, where Open finds no room for the
// memory that SQLite's connections share, a file. Only its Boot, Offsets, Next and Close
// may be used, and until it is closed nobody else can open the partition.
func OpenTight(path string) *DB {
	// Any other pragma that the driver executes before this one would undo it.
	return &DB{path: path, write: connect(path, "rw", 1, "locking_mode(EXCLUSIVE)", "synchronous(OFF)")}
}

// OpenRead opens an existing partition for searching. It touches no file yet.
func OpenRead(path string) *DB { return &DB{path: path, read: connect(path, "rw", readers)} }

// readers bounds the concurrent searches of one partition and thereby their memory.
const readers = 4

// connect makes no file unless mode is "rwc". Pragmas replace the usual ones; the driver
// executes them in alphabetical order.
func connect(path, mode string, conns int, pragmas ...string) *sql.DB {
	// Without fsync nothing that SQLite wrote is lost when the process is killed, only
	// when the machine is; the store copes with that (see logs.Open).
	if pragmas == nil {
		pragmas = []string{"synchronous(OFF)", "busy_timeout(10000)", "cache_size(-1024)", "journal_size_limit(8388608)"}
	}
	q := url.Values{"mode": {mode}, "_pragma": pragmas}
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Path: path, RawQuery: q.Encode()}).String())
	if err != nil { // only for an unknown driver name
		panic(fmt.Sprintf("open log partition: %v", err))
	}
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(1)
	return db
}

func (d *DB) prepare(ctx context.Context) (err error) {
	for stmt, text := range map[**sql.Stmt]string{
		&d.chunk: "INSERT INTO chunk VALUES(?, ?)",
		&d.terms: "INSERT INTO terms(rowid, t) VALUES(?, ?)",
		&d.spool: "INSERT OR REPLACE INTO spool VALUES(?, ?)",
	} {
		if *stmt, err = d.write.PrepareContext(ctx, text); err != nil {
			return err
		}
	}
	return nil
}

// Boot returns the boot that the partition was made in.
func (d *DB) Boot(ctx context.Context) (string, error) {
	var boot string
	if err := d.write.QueryRowContext(ctx, "SELECT boot FROM meta").Scan(&boot); err != nil {
		return "", fmt.Errorf("read log partition: %w", err)
	}
	return boot, nil
}

// Offsets returns up to where each spool stream has been stored.
func (d *DB) Offsets(ctx context.Context) (map[string]int64, error) {
	rows, err := d.write.QueryContext(ctx, "SELECT source, at FROM spool")
	if err != nil {
		return nil, fmt.Errorf("read log offsets: %w", err)
	}
	defer func() { _ = rows.Close() }()
	offsets := map[string]int64{}
	for rows.Next() {
		var source string
		var at int64
		if err := rows.Scan(&source, &at); err != nil {
			return nil, fmt.Errorf("read log offsets: %w", err)
		}
		offsets[source] = at
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read log offsets: %w", err)
	}
	return offsets, nil
}

// Next returns the number after the partition's last entry; 0 when it has none.
func (d *DB) Next(ctx context.Context) (uint64, error) {
	var first int64
	var body []byte
	err := d.write.QueryRowContext(ctx, "SELECT first, body FROM chunk ORDER BY first DESC LIMIT 1").Scan(&first, &body)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read last log chunk: %w", err)
	}
	n, err := chunk.Count(body)
	if err != nil {
		return 0, fmt.Errorf("read last log chunk: %w", err)
	}
	return uint64(first) + uint64(n), nil
}

// Append stores chunks and the offsets that the spool streams have been read to, and
// forgets the streams named in gone: all of it or nothing.
func (d *DB) Append(ctx context.Context, chunks []chunk.Chunk, offsets map[string]int64, gone []string) error {
	tx, err := d.write.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("append log chunks: %w", err)
	}
	defer func() { _ = tx.Rollback() }()
	if err := d.append(ctx, tx, chunks, offsets, gone); err != nil {
		return fmt.Errorf("append log chunks: %w", err)
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("append log chunks: %w", err)
	}
	return nil
}

func (d *DB) append(ctx context.Context, tx *sql.Tx, chunks []chunk.Chunk, offsets map[string]int64, gone []string) error {
	insertChunk, insertTerms, setOffset := tx.StmtContext(ctx, d.chunk), tx.StmtContext(ctx, d.terms), tx.StmtContext(ctx, d.spool)
	for i := range chunks {
		c := &chunks[i]
		if _, err := insertChunk.ExecContext(ctx, int64(c.First), c.Body); err != nil {
			return err
		}
		if _, err := insertTerms.ExecContext(ctx, int64(c.First), string(c.Terms)); err != nil {
			return err
		}
	}
	for source, at := range offsets {
		if _, err := setOffset.ExecContext(ctx, source, at); err != nil {
			return err
		}
	}
	for _, source := range gone {
		if _, err := tx.ExecContext(ctx, "DELETE FROM spool WHERE source = ?", source); err != nil {
			return err
		}
	}
	return nil
}

// Seal ends appending and folds the write-ahead log into the file as far as searches
// under way allow; SQLite folds the rest when the partition is closed.
func (d *DB) Seal(ctx context.Context) error {
	_, err := d.write.ExecContext(ctx, "PRAGMA wal_checkpoint(PASSIVE)")
	if err = errors.Join(err, d.closeWriter()); err != nil {
		return fmt.Errorf("seal log partition: %w", err)
	}
	return nil
}

// Search calls yield for every chunk that has all the terms and may hold entries
// numbered above after, oldest or newest first, until yield returns false.
func (d *DB) Search(ctx context.Context, terms []string, after uint64, newestFirst bool, yield func(first uint64, body []byte) bool) error {
	// The chunk that holds entry after+1 begins at most a chunk's length before it.
	from := max(int64(after)-chunk.MaxLines, 0)
	query, args := "SELECT first, body FROM chunk WHERE first > ? ORDER BY first", []any{from}
	if len(terms) > 0 {
		query = "SELECT first, body FROM terms CROSS JOIN chunk ON first = terms.rowid WHERE terms MATCH ? AND terms.rowid > ? ORDER BY terms.rowid"
		args = []any{match(terms), from}
	}
	if newestFirst {
		query += " DESC"
	}
	rows, err := d.read.QueryContext(ctx, query, args...)
	if err != nil {
		return fmt.Errorf("search logs: %w", err)
	}
	defer func() { _ = rows.Close() }()
	var body sql.RawBytes
	for rows.Next() {
		var first int64
		if err := rows.Scan(&first, &body); err != nil {
			return fmt.Errorf("search logs: %w", err)
		}
		if !yield(uint64(first), body) {
			return nil
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("search logs: %w", err)
	}
	return nil
}

// maxTerms bounds the index query. Terms beyond it only make it find more chunks.
const maxTerms = 32

// match writes an FTS5 query for chunks with all the terms, each quoted as data.
func match(terms []string) string {
	var q strings.Builder
	for _, t := range terms[:min(len(terms), maxTerms)] {
		q.WriteString(`"` + strings.ReplaceAll(t, `"`, `""`) + `" `)
	}
	return q.String()
}

// Size returns the bytes on disk.
func Size(path string) int64 {
	var n int64
	for _, suffix := range suffixes {
		if fi, err := os.Stat(path + suffix); err == nil {
			n += fi.Size()
		}
	}
	return n
}

// Close frees the partition after searches under way have ended.
func (d *DB) Close() error {
	err := d.closeWriter()
	if d.read != nil {
		err = errors.Join(err, d.read.Close())
	}
	if err != nil {
		return fmt.Errorf("close log partition: %w", err)
	}
	return nil
}

func (d *DB) closeWriter() error {
	if d.write == nil {
		return nil
	}
	for _, s := range []*sql.Stmt{d.chunk, d.terms, d.spool} {
		if s != nil {
			_ = s.Close()
		}
	}
	err := d.write.Close()
	d.write = nil
	return err
}

// suffixes are those of the files that make up a partition.
var suffixes = []string{"", "-wal", "-shm"}

// Remove deletes the partition's files. It may be open: searches go on.
func Remove(path string) error {
	if err := remove(path); err != nil {
		return fmt.Errorf("remove log partition: %w", err)
	}
	return nil
}

func remove(path string) error {
	var errs []error
	for _, suffix := range suffixes {
		if err := os.Remove(path + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// MoveAside renames a damaged partition's files so that nobody opens them again.
func MoveAside(path string) error {
	var errs []error
	for _, suffix := range suffixes {
		if err := os.Rename(path+suffix, path+suffix+".torn"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("move log partition aside: %w", err)
	}
	return nil
}

// IsDamaged reports whether err says that the file is not an intact partition.
func IsDamaged(err error) bool {
	return errors.Is(err, chunk.ErrCorrupt) || errors.Is(err, errSchema) ||
		slices.Contains([]int{sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT}, code(err))
}

// errSchema is wrapped by Open's error when the file lacks what [Create] made.
var errSchema = errors.New("not a log partition")

// IsFull reports whether err says that the disk is full.
func IsFull(err error) bool {
	e, ok := errors.AsType[*sqlite.Error](err)
	return ok && (e.Code()&0xff == sqlite3.SQLITE_FULL || e.Code() == sqlite3.SQLITE_IOERR_SHMSIZE)
}

// code returns SQLite's primary result code; 0 when err is not SQLite's.
func code(err error) int {
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		return e.Code() & 0xff
	}
	return 0
}
