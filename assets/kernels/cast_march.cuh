// What a ray makes of its samples, from place to place (a tile, or a box of tiles that are all there) and from level to level.
//
//   samples   . . . i i i i i i i i i r r | i i i i i i r r | m m m m m      |: the far face of a tile
//
// i, r: where a ray enters a resident tile it looks which of the tiles beyond its far faces its samples reach (r); where those are resident too, all samples up to the tile's end are
// taken in one run without a test. Where one is not, or the tile holds one value, those of which all of the support is in the tile are one run (i), and each r is taken with all tests.
// A box of tiles that are all there is one run up to where samples reach beyond it; what is left of it is taken tile by tile.
// m: the tile is missing, and so, in a pyramid, the next coarser level is looked at until the tile is left. Tiles and rims of which ranges tell that nothing of them matters are
// leapt over.
#ifndef VASTGRID_CAST_MARCH_CUH
#define VASTGRID_CAST_MARCH_CUH

#include "cast_course.cuh"

// Samples whose voxels are fetched together.
#define VG_BATCH 4
#define VG_HALVINGS 10

// M: how voxels are found (vg_near). LIT: shaded by the gradient. MANY: a pyramid.
template <class M, int MODE, bool LIT, bool MANY> struct vg_march : vg_course<M, MANY> {
    typedef vg_course<M, MANY> course;
    using course::c;
    using course::near;
    using course::line;
    using course::path;
    using course::level;
    using course::wanted;
    using course::change;
    using course::k;
    using course::index;
    using course::shade;
    using course::sample;
    using course::before;
    using course::after;
    using course::origin;
    using course::step;
    using course::along;
    using course::to_place;
    using course::look_at_distance;
    using course::over;
    using course::fewer;
    using course::whole;
    using course::first;
    using course::last;
    using course::run;

    vg_counts* counts;
    vg_u32 left;              // samples from the next one on that need no test
    vg_u32 i;                 // how many of those from `origin` on were taken
    vg_u32 lead;              // by so many samples the ray is ahead of its warp: it takes none until the others have taken so many (cast_warp.cuh)
    float low[3], top[3];     // from where up to where samples may be read without a test
    vg_colour colour;         // so far; of a surface, once it is met
    float most;               // the greatest value so far
    vg_u32 samples, skipped;
    vg_u64 noted;             // what was noted last as missing
    bool lacking, bare;       // something was missing; and nothing stood in for it
    bool waits;               // for what is missing, at sample k

    VG_HD vg_march(const vg_cast& cast, vg_counts* into, vg_u32 column, vg_u32 row, bool exists)
        : course(cast, column, row, exists), counts(into), left(0), i(0), lead(0), most(-VG_INFINITY), samples(0), skipped(0), noted(0), lacking(false), bare(false), waits(false) {
        colour.r = colour.g = colour.b = colour.a = 0;
        if (!MANY || !c.before || !exists) return;
        // Where it was after the turn before.
        const vg_turn& was = vg_global<const vg_turn>(c.before)[(vg_u64)row * c.width + column];
        colour = was.colour;
        most = was.most;
        k = was.k;
        if (!was.waits) line.samples = 0;
    }

    // Looks for samples that need no test, and deals with all that come before.
    VG_HD void next() {
        while (left == 0 && k < line.samples) visit();
    }

    // Takes some of those, or waits.
    VG_HD void go() {
        if (left == 0) return;
        if (lead >= VG_BATCH) {
            lead -= VG_BATCH;
            return;
        }
        // Fewer the first time, so that all lanes are in step to the sample.
        const vg_u32 n = left < VG_BATCH - lead ? left : VG_BATCH - lead;
        lead = 0;
        float values[VG_BATCH];
        fetch(n, values);
        take_all(n, values);
    }

    // The pixel.
    VG_HD vg_colour finished() const {
        vg_colour all = colour;
        if (MODE == VG_MIP && most != -VG_INFINITY) all = vg_colour_of(c, 0, most);
        if (bare && c.flags & VG_CAST_HINT) all = vg_over(all, c.hint);
        return vg_over(all, c.background);
    }

private:
    // Where sample n from `origin` on is read. Past the array's faces the outermost voxel stands in; whatever rounding does, nothing below `low` and beyond `top` is read.
    VG_HD float at(int a, vg_u32 n) const {
        const float p = along(a, n);
#if defined(__CUDA_ARCH__)
        return fminf(fmaxf(p, low[a]), top[a]);
#else
        return p < low[a] ? low[a] : p < top[a] ? p : top[a];
#endif
    }

    // The values of the next n samples. Where each lane of a warp needs one tile alone for its own, they are found as in flat memory.
    VG_HD void fetch(vg_u32 n, float values[VG_BATCH]) const {
        float p[VG_BATCH][3];
        VG_UNROLL
        for (int j = 0; j < VG_BATCH; j++) {
            // Past the last one that again, so that none is taken by itself.
            const vg_u32 next = i + ((vg_u32)j < n ? (vg_u32)j : n - 1);
            VG_UNROLL
            for (int a = 0; a < 3; a++) p[j][a] = at(a, next);
        }
        vg_u32 from[3], to[3];
        VG_UNROLL
        for (int a = 0; a < 3; a++) {
            const vg_u32 first = vg_below(p[0][a]).i, last = vg_below(p[VG_BATCH - 1][a]).i;
            from[a] = first < last ? first : last;
            to[a] = (first < last ? last : first) + 1;
        }
        vg_flat<typename M::voxel_type> flat;
        // In a pyramid it costs more registers than it saves time.
        if (M::FLAT && !MANY && vg_all(near.is_flat(from, to, &flat))) {
            VG_UNROLL
            for (int j = 0; j < VG_BATCH; j++) values[j] = flat.sample(p[j][0], p[j][1], p[j][2]);
        } else {
            VG_UNROLL
            for (int j = 0; j < VG_BATCH; j++) values[j] = near.sample_inside(p[j][0], p[j][1], p[j][2]);
        }
    }

    // The sample taken last was the ray's last one: it is followed no further than the others that were fetched with it.
    VG_HD void end() {
        if (MANY && waits) return halt(sample() * this->stride());
        samples -= left ? left - 1 : 0;
        left = 0;
        const vg_u32 last = (sample() + VG_BATCH) * this->stride();
        line.samples = last < line.samples ? last : line.samples;
        k = line.samples;
    }

    // Whether rays wait for what is missing.
    VG_HD bool may_wait() const { return MANY && c.rays; }

    // Waits at a sample, which was not taken.
    VG_HD void halt(vg_u32 at) {
        waits = bare = true;
        samples -= left;
        left = 0;
        k = line.samples = at;
    }

    // ---- from place to place

    VG_HD void visit() {
        vg_u32 until = line.samples;
        if (MANY) {
            if (k >= change) look_at_distance();
            until = change < until ? change : until;
        }
        const vg_u32 levels = MANY ? c.levels : 1;
        for (vg_u32 l = wanted; l < levels; l++) {
            vg_i64 p[3];
            to_place(l, p);
            const vg_u32 most_left = before(until);
            // Less than a sample: one whose middle lies beside it stands for it, as others do for more than they are.
            if (MANY && most_left == 0 && near.state != VG_MISSING) {
                shown(l, until - k);
                k = until;
                return;
            }
            if (near.whole) return go_through(l, most_left, until);
            // Samples before the ray leaves the place.
            const vg_u32 through = run(most_left);
            const bool inner = inside();
            vg_u32 n = through;
            if (c.flags & VG_CAST_SKIP_EMPTY) {
                const vg_range own = near.range();
                const bool quiet = own.known && nothing_in(own);
                const bool all = quiet && quiet_around(own);
                if (all || (quiet && inner)) {
                    n = all ? through : span(most_left);
                    skipped += n;
                    k = after(n, most_left, until);
                    return;
                }
                if (quiet) n = outside(through);
            }
            if (near.state == VG_MISSING) {
                if (l == wanted) note(near.id());
                if (may_wait()) return halt(k);
                until = after(through, most_left, until);
                continue;
            }
            const bool open = near.is_resident() && opened(n);
            if (!open && !inner) return rim(l, p, after(1, most_left, until));
            if (!open) n = span(most_left);
            begin(l, n, after(n, most_left, until));
            if (!near.is_resident()) return uniform();
            if (!open) {
                VG_UNROLL
                for (int a = 0; a < 3; a++) {
                    low[a] = first(a);
                    top[a] = vg_just_below(last(a));
                }
            }
            return;
        }
        // So that there soon is something, the coarsest one too.
        if (MANY && level != wanted) note(near.id());
        bare = true;
        shown(VG_CAST_LEVELS, until - k);
        skipped += until - k;
        k = until;
    }

    // All samples of a box whose supports are in it.
    VG_HD void go_through(vg_u32 l, vg_u32 most_left, vg_u32 until) {
        float n = VG_INFINITY;
        VG_UNROLL
        for (int a = 0; a < 3; a++) {
            // Past the array's faces the outermost voxels stand in.
            n = fewer(n, a, near.begins(a) ? -1.0f : 0.0f, last(a) + (near.ends(a) ? 1.0f : 0.0f));
            low[a] = 0;
            top[a] = vg_just_below(last(a));
        }
        const vg_u32 through = whole(n, most_left);
        begin(l, through, after(through, most_left, until));
    }

    // Has so many samples taken without a test, up to where the finest level's go on.
    VG_HD void begin(vg_u32 l, vg_u32 n, vg_u32 next) {
        left = n;
        i = 0;
        samples += n;
        if (MANY) {
            shown(l, next - k);
            k = next;
        }
    }

    VG_HD bool is_inside(int a) const { return origin[a] >= first(a) && origin[a] < last(a); }

    // Whether all of the support of the next sample is in the place.
    VG_HD bool inside() const {
        bool all = true;
        VG_UNROLL
        for (int a = 0; a < 3; a++) all = all && is_inside(a);
        return all;
    }

    // The samples from the next one on, which is one, of which that is so.
    VG_HD vg_u32 span(vg_u32 most_left) const {
        float n = VG_INFINITY;
        VG_UNROLL
        for (int a = 0; a < 3; a++) n = fewer(n, a, first(a), last(a));
        return whole(n, most_left);
    }

    // How many of the samples of a run, the first of which is none, come before the first of which that is so.
    VG_HD vg_u32 outside(vg_u32 through) const {
        float n = 0;
        VG_UNROLL
        for (int a = 0; a < 3; a++) {
            if (is_inside(a)) continue;
            const float t = over((step[a] < 0 ? last(a) : first(a)) - origin[a], step[a]);
            n = t >= 0 ? t > n ? t : n : VG_INFINITY;
        }
        return whole(floorf(n) + 1.0f, through);
    }

    // Whether all of the supports of the samples of a run may be read without a test.
    VG_HD bool opened(vg_u32 n) {
        float most[3];
        VG_UNROLL
        for (int a = 0; a < 3; a++) {
            const float end = along(a, n - 1);
            most[a] = end > origin[a] ? end : origin[a];
            most[a] = most[a] > first(a) ? most[a] : first(a);
        }
        return near.open(most, low, top);
    }

    // ---- what may be leapt over

    VG_HD bool nothing_in(const vg_range& range) const { return vg_nothing_in<MODE>(c, range, most); }

    // The place is quiet: with what its rim reaches too?
    VG_HD bool quiet_around(const vg_range& own) const {
        const vg_range all = near.hull(own);
        return all.known && nothing_in(all);
    }

    // ---- what there is

    // A sample on the rim of its place, up to where the finest level's go on: from the finest level that has all of it.
    VG_HD void rim(vg_u32 l, vg_i64 p[3], vg_u32 next) {
        for (;;) {
            float value;
            if (near.sample(p, &value)) {
                shown(l, next - k);
                if (MANY && before(next) == 0) break;
                samples++;
                if (take(value, false)) return end();
                break;
            }
            want(p, 0);
            if (may_wait()) return halt(k);
            l++;
            if (!MANY || l == c.levels) {
                bare = true;
                shown(VG_CAST_LEVELS, next - k);
                samples++;
                break;
            }
            to_place(l, p);
        }
        k = next;
    }

    // The samples that were begun, in a tile of one value.
    VG_HD void uniform() {
        const float held = near.value(), value = held - held == 0 ? held : held + (held - held);
        while (left > 0) {
            if (take(value, false)) return end();
            advance(MODE == VG_DVR ? 1 : left);
        }
    }

    // ---- what is made of it

    // Takes the value of the next sample, which is at(., i) in a resident place, and known to be seen, where it is `inner`. Whether the ray has ended.
    VG_HD bool take(float value, bool inner) {
        if (MODE == VG_MIP) {
            if (value > most) most = value;
            return most >= c.table_top;
        }
        if (MODE == VG_ISO) {
            if (!(value >= c.iso)) return false;
            surface();
            return true;
        }
        vg_colour own = vg_colour_of(c, shade, value);
        if (!inner && (own.a == 0 || value != value)) return false;
        if (LIT) {
            float slope[3];
            const float here[3] = {at(0, i), at(1, i), at(2, i)};
            if (inner && near.slope_inside(here, low, top, slope)) {
                weigh(slope, level);
            } else {
                vg_i64 p[3];
                path.at(sample(), p);
                waits = !slope_at(p, slope) && may_wait();
                if (waits) return true;
            }
            float share, white;
            vg_light(c, line.direction, slope, &share, &white);
            white *= own.a;
            own.r = own.r * share + white;
            own.g = own.g * share + white;
            own.b = own.b * share + white;
        }
        blend(own, 1.0f - colour.a);
        return colour.a >= c.stop_at_alpha;
    }

    // Takes n at once.
    VG_HD void take_all(vg_u32 n, const float values[VG_BATCH]) {
        if (MODE == VG_DVR && LIT) {
            // Those that are seen, one by one: gradients are too long to have several at once.
            vg_u32 seen = 0, done = 0;
            VG_UNROLL
            for (int j = 0; j < VG_BATCH; j++) seen |= (vg_colour_of(c, shade, values[j]).a != 0 && values[j] == values[j] ? 1u : 0u) << j;
            VG_NO_UNROLL
            for (seen &= (1u << n) - 1; seen; seen &= seen - 1) {
                const vg_u32 j = (vg_u32)vg_lowest(seen);
                advance(j - done);
                done = j;
                if (take(one_of(values, j), true)) return end();
            }
            return advance(n - done);
        }
        if (MODE == VG_DVR) {
            vg_colour own[VG_BATCH];
            VG_UNROLL
            for (int j = 0; j < VG_BATCH; j++) own[j] = vg_colour_of(c, shade, values[j]);
            // None of them looks whether the ray has ended before it is looked up: a branch between them would have each colour wait for the one before.
            vg_u32 taken = 0;
            bool ended = false;
            VG_UNROLL
            for (int j = 0; j < VG_BATCH; j++) {
                // What is clear adds nothing; what is no number, past the last, or behind the ray's end, must not.
                blend(own[j], values[j] == values[j] && (vg_u32)j < n && !ended ? 1.0f - colour.a : 0.0f);
                taken += ended ? 0 : 1;
                ended = colour.a >= c.stop_at_alpha;
            }
            if (ended) {
                left -= (taken < n ? taken : n) - 1;
                return end();
            }
            return advance(n);
        }
        float greatest = -VG_INFINITY;
        VG_UNROLL
        for (int j = 0; j < VG_BATCH; j++) greatest = values[j] > greatest ? values[j] : greatest;
        if (MODE == VG_MIP) {
            most = greatest > most ? greatest : most;
            if (most >= c.table_top) {
                left -= n - 1;
                return end();
            }
        }
        if (MODE == VG_ISO && greatest >= c.iso) {
            // The first of them.
            vg_u32 reached = 0;
            VG_UNROLL
            for (int j = 0; j < VG_BATCH; j++) reached |= (values[j] >= c.iso ? 1u : 0u) << j;
            const vg_u32 j = (vg_u32)vg_lowest(reached);
            advance(j);
            take(one_of(values, j), true);
            return end();
        }
        advance(n);
    }

    // Selected, not indexed: the values stay in registers.
    VG_HD static float one_of(const float values[VG_BATCH], vg_u32 j) {
        float value = values[0];
        VG_UNROLL
        for (vg_u32 n = 1; n < VG_BATCH; n++) value = j == n ? values[n] : value;
        return value;
    }

    VG_HD void advance(vg_u32 n) {
        if (MANY)
            index += n;
        else
            k += n;
        left -= n;
        i += n;
    }

    VG_HD void blend(const vg_colour& own, float rest) {
        colour.r += rest * own.r;
        colour.g += rest * own.g;
        colour.b += rest * own.b;
        colour.a += rest * own.a;
    }

    // Where between the sample before, which is below the surface, and the next one, which is not, it is crossed, and its colour there.
    VG_HD void surface() {
        vg_i64 place[3], p[3];
        path.at(sample(), place);
        if (sample() > 0) {
            int below = 0, above = 1 << VG_HALVINGS;
            bool all = true;
            while (all && above - below > 1) {
                const int middle = (below + above) / 2;
                float value;
                path.between(sample() - 1, middle, VG_HALVINGS, p);
                all = near.sample(p, &value);
                if (all && value >= c.iso) above = middle;
                if (all && !(value >= c.iso)) below = middle;
            }
            if (all) path.between(sample() - 1, above, VG_HALVINGS, place);
            if (!all) want(p, 0);
            waits = !all && may_wait();
        }
        float slope[3], share, white;
        waits = waits || (!slope_at(place, slope) && may_wait());
        if (waits) return;
        vg_light(c, line.direction, slope, &share, &white);
        colour.r = c.colour[0] * share + white;
        colour.g = c.colour[1] * share + white;
        colour.b = c.colour[2] * share + white;
        colour.a = 1;
    }

    // The gradient at a place of the present level, weighed: from the finest level that has all of its support, or none. Whether any had.
    VG_HD bool slope_at(const vg_i64 p[3], float slope[3]) {
        if (near.slope(p, slope)) return weigh(slope, level);
        want(p, 1);
        if (MANY) {
            // In fixed point, and back to the finest level's voxels.
            const vg_cast_level& from = c.level[level];
            const vg_i64 half = 1ll << 31;
            for (vg_u32 l = level + 1; l < c.levels; l++) {
                M other = near;
                other.go(c.level[l]);
                vg_i64 q[3];
                VG_UNROLL
                for (int a = 0; a < 3; a++) q[a] = vg_divided((p[a] + half) * (vg_i64)from.factor[a], c.level[l].factor[a]) - half;
                if (other.slope(q, slope)) return weigh(slope, l);
            }
        }
        bare = true;
        slope[0] = slope[1] = slope[2] = 0;
        return false;
    }

    VG_HD bool weigh(float slope[3], vg_u32 l) const {
        VG_UNROLL
        for (int a = 0; a < 3; a++) {
            slope[a] *= c.weights[a];
            if (MANY) slope[a] /= (float)c.level[l].factor[a];
        }
        return true;
    }

    // ---- what is told

    VG_HD void shown(vg_u32 l, vg_u32 n) {
        if (MANY) vg_add(&counts->shown[wanted][l], n);
    }

    // Notes what of a support is missing, at the level that is wanted alone.
    VG_HD void want(const vg_i64 p[3], int reach) {
        if (MANY && level != wanted) return;
        const vg_noted now = vg_note_support(c, near.grid(), level, p[0], p[1], p[2], reach, sample() * this->stride(), counts, noted, lacking);
        noted = now.key;
        lacking = now.lacking;
    }

    // A tile of the present level is missing.
    VG_HD void note(vg_u64 tile) {
        const vg_noted last = {noted, lacking};
        noted = vg_note(c, level, tile, k, counts, last).key;
        lacking = true;
    }
};

#endif
