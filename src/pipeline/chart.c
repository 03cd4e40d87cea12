/* SVG by hand: a few shapes, coordinates with one decimal. */
#include "pipeline/chart.h"

#include <math.h>
#include <string.h>

enum { WIDTH = 640, HEIGHT = 320, LEFT = 60, RIGHT = 16, TOP = 34, BOTTOM = 44 };

/* Okabe and Ito's colours, which colour-blind readers can tell apart. */
static const char *const colours[6] = {"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"};

void html_text(strbuf *out, const char *text)
{
    for (; *text; text++) {
        switch (*text) {
        case '&':
            strbuf_puts(out, "&amp;");
            break;
        case '<':
            strbuf_puts(out, "&lt;");
            break;
        case '>':
            strbuf_puts(out, "&gt;");
            break;
        case '"':
            strbuf_puts(out, "&quot;");
            break;
        default:
            strbuf_putc(out, *text);
        }
    }
}

static void open_svg(strbuf *out, const char *title, int height)
{
    strbuf_printf(out, "<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"", WIDTH, height);
    html_text(out, title);
    strbuf_printf(out, "\"><text class=\"t\" x=\"%d\" y=\"20\">", LEFT);
    html_text(out, title);
    strbuf_puts(out, "</text>");
}

/* The largest of 1, 2 and 5 times a power of ten that gives at least four ticks. */
static double tick_step(double span)
{
    double power = pow(10, floor(log10(span > 0 ? span : 1)));
    static const double factors[] = {1, 0.5, 0.2, 0.1};
    for (size_t i = 0; i < 4; i++)
        if (span / (power * factors[i]) >= 4)
            return power * factors[i];
    return power * 0.1;
}

typedef struct axis {
    double low, high;
} axis;

static void axis_take(axis *a, double v)
{
    if (!isfinite(v))
        return;
    a->low = v < a->low ? v : a->low;
    a->high = v > a->high ? v : a->high;
}

static double at_x(const axis *a, double v)
{
    return LEFT + (v - a->low) / (a->high - a->low) * (WIDTH - LEFT - RIGHT);
}

static double at_y(const axis *a, double v)
{
    return HEIGHT - BOTTOM - (v - a->low) / (a->high - a->low) * (HEIGHT - TOP - BOTTOM);
}

/* How many steps after the first tick still lie on the axis. */
static int ticks(const axis *a, double step)
{
    return (int)floor(a->high / step - ceil(a->low / step) + 1e-9);
}

static void draw_axes(strbuf *out, const axis *x, const axis *y, const char *x_label, const char *y_label)
{
    double step = tick_step(y->high - y->low);
    for (int i = 0; i <= ticks(y, step); i++) {
        double v = (ceil(y->low / step) + i) * step;
        strbuf_printf(out,
                      "<path class=\"g\" d=\"M%d %.1fH%d\"/><text class=\"n\" text-anchor=\"end\" x=\"%d\" "
                      "y=\"%.1f\">%g</text>",
                      LEFT, at_y(y, v), WIDTH - RIGHT, LEFT - 6, at_y(y, v) + 4, fabs(v) < 1e-12 ? 0 : v);
    }
    step = tick_step(x->high - x->low);
    for (int i = 0; i <= ticks(x, step); i++) {
        double v = (ceil(x->low / step) + i) * step;
        strbuf_printf(out, "<text class=\"n\" text-anchor=\"middle\" x=\"%.1f\" y=\"%d\">%g</text>",
                      at_x(x, v), HEIGHT - BOTTOM + 16, v);
    }
    strbuf_printf(out, "<text class=\"n\" text-anchor=\"middle\" x=\"%d\" y=\"%d\">", (LEFT + WIDTH) / 2,
                  HEIGHT - 8);
    html_text(out, x_label);
    strbuf_printf(
        out, "</text><text class=\"n\" transform=\"translate(14 %d) rotate(-90)\" text-anchor=\"middle\">",
        HEIGHT / 2);
    html_text(out, y_label);
    strbuf_puts(out, "</text>");
}

static void widen(axis *a)
{
    if (a->low > a->high)
        *a = (axis){0, 1};
    if (a->high - a->low < 1e-12) {
        a->low -= 0.5;
        a->high += 0.5;
    }
}

void chart_lines(strbuf *out, const char *title, const char *x_label, const char *y_label,
                 const chart_series *series, size_t n_series)
{
    axis x = {INFINITY, -INFINITY}, y = {INFINITY, -INFINITY};
    for (size_t s = 0; s < n_series; s++)
        for (size_t i = 0; i < series[s].n; i++) {
            axis_take(&x, series[s].x[i]);
            axis_take(&y, series[s].y[i]);
        }
    widen(&x);
    widen(&y);
    open_svg(out, title, HEIGHT);
    draw_axes(out, &x, &y, x_label, y_label);
    for (size_t s = 0; s < n_series && s < 6; s++) {
        bool pen_down = false;
        strbuf_printf(out, "<path fill=\"none\" stroke=\"%s\" stroke-width=\"2\" d=\"", colours[s]);
        for (size_t i = 0; i < series[s].n; i++) {
            bool finite = isfinite(series[s].x[i]) && isfinite(series[s].y[i]);
            if (finite)
                strbuf_printf(out, "%c%.1f %.1f", pen_down ? 'L' : 'M', at_x(&x, series[s].x[i]),
                              at_y(&y, series[s].y[i]));
            pen_down = finite;
        }
        strbuf_printf(out, "\"/><text class=\"n\" fill=\"%s\" style=\"fill:%s\" x=\"%d\" y=\"%d\">",
                      colours[s], colours[s], WIDTH - 150, TOP + 14 + 16 * (int)s);
        html_text(out, series[s].label);
        strbuf_puts(out, "</text>");
    }
    strbuf_puts(out, "</svg>");
}

static bool is_point(const float *p)
{
    return isfinite(p[0]) && isfinite(p[1]);
}

void chart_map(strbuf *out, const char *title, const float *points, const int64_t *chosen, size_t n)
{
    axis x = {INFINITY, -INFINITY}, y = {INFINITY, -INFINITY};
    size_t every = n / 4000 + 1;
    for (size_t i = 0; i < n; i++) {
        axis_take(&x, points[2 * i]);
        axis_take(&y, points[2 * i + 1]);
    }
    widen(&x);
    widen(&y);
    open_svg(out, title, HEIGHT);
    strbuf_puts(out, "<g fill=\"#999\" fill-opacity=\"0.45\">");
    for (size_t i = 0; i < n; i += every)
        if (chosen[i] == 0 && is_point(points + 2 * i))
            strbuf_printf(out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"1.6\"/>", at_x(&x, points[2 * i]),
                          at_y(&y, points[2 * i + 1]));
    strbuf_printf(out, "</g><g fill=\"%s\" stroke=\"#fff\" stroke-width=\"0.6\">", colours[1]);
    for (size_t i = 0; i < n; i++)
        if (chosen[i] != 0 && is_point(points + 2 * i))
            strbuf_printf(out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3.2\"><title>pick %lld</title></circle>",
                          at_x(&x, points[2 * i]), at_y(&y, points[2 * i + 1]), (long long)chosen[i]);
    strbuf_printf(out,
                  "</g><text class=\"n\" x=\"%d\" y=\"%d\">grey: reviews%s; colour: chosen. First two "
                  "principal components.</text></svg>",
                  LEFT, HEIGHT - 10, every > 1 ? " (a sample)" : "");
}

void chart_bars(strbuf *out, const char *title, const char *const *labels, const double *values,
                const double *errors, size_t n)
{
    enum { ROW = 24, LABELS = 190 };
    double most = 1e-9;
    int height = TOP + ROW * (int)n + 10;
    for (size_t i = 0; i < n; i++)
        most = fmax(most, values[i] + errors[i]);
    double scale = (WIDTH - LABELS - 110) / most;
    open_svg(out, title, height);
    for (size_t i = 0; i < n; i++) {
        double y = TOP + ROW * (double)i, end = LABELS + values[i] * scale;
        strbuf_printf(out, "<text class=\"n\" text-anchor=\"end\" x=\"%d\" y=\"%.1f\">", LABELS - 8, y + 14);
        html_text(out, labels[i]);
        strbuf_printf(
            out,
            "</text><rect x=\"%d\" y=\"%.1f\" width=\"%.1f\" height=\"14\" fill=\"%s\"/>"
            "<path class=\"e\" d=\"M%.1f %.1fH%.1f\"/><text class=\"n\" x=\"%.1f\" y=\"%.1f\">%.2f &#177; "
            "%.2f</text>",
            LABELS, y + 3, values[i] * scale, colours[0], fmax(LABELS, end - errors[i] * scale), y + 10,
            end + errors[i] * scale, end + errors[i] * scale + 8, y + 14, values[i], errors[i]);
    }
    strbuf_puts(out, "</svg>");
}
